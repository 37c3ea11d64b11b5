package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// maxPayload bounds what decode reads: the largest message of the bus.
const maxPayload = 8 << 20

func decodeCommand() *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:   "decode [FILE]",
		Short: "Turn one payload of the bus (standard input or FILE) into JSON lines",
		Long: "Turn one payload of the bus into JSON lines, one per message or one per row.\n" +
			"Made for the NATS CLI: nats sub 'metrics.>' --translate 'foreshift decode'",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			in := c.InOrStdin()
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			b, err := io.ReadAll(io.LimitReader(in, maxPayload+1))
			if err != nil {
				return err
			}
			if len(b) > maxPayload {
				return fmt.Errorf("decode: the payload is larger than %d bytes, the most a message may have", maxPayload)
			}
			lines, err := decode(schemas.Kind(kind), b)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(lines)
			return err
		},
	}
	c.Flags().StringVar(&kind, "kind", "", "kind of message, such as metrics or plan; checks it strictly; default: found out from the payload")
	return c
}

// arrowMark begins every Arrow IPC stream.
var arrowMark = []byte{0xff, 0xff, 0xff, 0xff}

// decode turns a payload into JSON lines. The NATS CLI hands over a payload
// without its headers: Arrow messages say themselves what they are; JSON ones are
// checked only when their kind is given, and are one line as they stand otherwise.
func decode(kind schemas.Kind, b []byte) ([]byte, error) {
	switch {
	case kind != "":
		m, err := schemas.Decode(kind, b)
		if err != nil {
			return nil, err
		}
		return schemas.JSONLines(m)
	case bytes.HasPrefix(b, arrowMark):
		var errs []error
		for _, k := range []schemas.Kind{schemas.KindMetrics, schemas.KindSteps, schemas.KindForecasts} {
			m, err := schemas.Decode(k, b)
			if err == nil {
				return schemas.JSONLines(m)
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("decode: the payload is neither Arrow nor JSON: %w", err)
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}
