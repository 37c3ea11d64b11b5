package rescheduling
import ("testing";"os";"syscall";"strconv";"context";"fmt")
func envf(k string,d float64) float64 { if s:=os.Getenv(k); s!="" {f,_:=strconv.ParseFloat(s,64); return f}; return d}
func TestLab(t *testing.T) {
	if os.Getenv("LAB")=="" { t.Skip() }
	for _,k:=range []int{25,50,100} { for seed:=uint64(1);seed<=uint64(envf("SEEDS",5));seed++ {
		c0:=cpu()
		r,err:=Run(context.Background(), Options{Snapshot:"/work/shared/data/vm-rescheduling/pm279_vm2089.json.gz",Moves:k,CPUSeconds:envf("S",5),CPU:func() float64{return cpu()-c0},Seed:seed,Out:"/tmp/moves.json"})
		fmt.Printf("%+v %v\n",r,err)
	}}
}
func cpu() float64 { var u syscall.Rusage; syscall.Getrusage(0,&u); return float64(u.Utime.Sec+u.Stime.Sec)+float64(u.Utime.Usec+u.Stime.Usec)/1e6 }
