// Command train makes the weights that package lstm has built in, from synthetic
// series alone: the same seed gives the same weights (to rounding, which differs
// between kinds of processors). It runs on two cores at the lowest priority and says
// how it comes along and what it cost.
//
//	go run ./forecaster/lstm/train -seed 1 [-out forecaster/lstm/weights.bin]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/forecaster/lstm"
)

type flags struct {
	seed                               uint64
	out, from                          string
	series, held, days, updates, every int
	rate                               float64
}

func main() {
	var f flags
	flag.Uint64Var(&f.seed, "seed", 1, "seed of the series, of the first weights and of the order")
	flag.StringVar(&f.out, "out", "forecaster/lstm/weights.bin", "file to write")
	flag.StringVar(&f.from, "from", "", "file of weights to go on from; none = new ones")
	flag.IntVar(&f.series, "series", 1200, "synthetic series to train on")
	flag.IntVar(&f.held, "held", 96, "further ones to judge by")
	flag.IntVar(&f.days, "days", 12, "days of each")
	flag.IntVar(&f.updates, "updates", 4500, "updates of 32 series x 96 steps")
	flag.IntVar(&f.every, "every", 300, "updates between judgements")
	flag.Float64Var(&f.rate, "rate", 2e-3, "first learning rate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	runtime.GOMAXPROCS(2)
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	from := lstm.NewWeights(f.seed)
	if f.from != "" {
		b, err := os.ReadFile(f.from)
		if err != nil {
			return err
		}
		if from, err = lstm.Decode(b); err != nil {
			return fmt.Errorf("%s: %w", f.from, err)
		}
	}
	all := lstm.Generate(f.seed, f.series+f.held, f.days)
	t, err := lstm.NewTrainer(from, all[:f.series], all[f.series:], lstm.Options{Seed: f.seed, Rate: f.rate, Updates: f.updates, Every: f.every, Patience: 6})
	if err != nil {
		return err
	}
	begun := time.Now()
	best, score := t.Train(f.updates, func(u int, s float64) bool {
		fmt.Printf("update %5d  loss %.4f of the last day's quantiles on %d series not trained on  %4.0f s, %4.0f CPU-s\n", u, s, f.held, time.Since(begun).Seconds(), cpu())
		return ctx.Err() == nil
	})
	if err := os.WriteFile(f.out, best.Encode(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %d bytes, loss %.4f\n", f.out, lstm.EncodedSize, score)
	return nil
}

// cpu is the processor time used so far, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
