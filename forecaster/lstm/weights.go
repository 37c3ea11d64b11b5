package lstm

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// The layout of encoded weights, little-endian: magic, version and the five sizes as
// uint16, the parameters as float32, xxhash64 of all before.
const (
	magic   = "FSLSTM"
	version = 1
	prefix  = len(magic) + 2*6
)

// EncodedSize is the length of encoded weights in bytes.
const EncodedSize = prefix + 4*Size + 8

// ErrWeights is what every refusal of encoded weights wraps.
var ErrWeights = errors.New("not the weights of this network")

var shape = [...]uint16{version, inputs, Hidden, candidates, levels, uint16(targets)}

// Encode writes the weights; the same weights give the same bytes.
func (w *Weights) Encode() []byte {
	b := append(make([]byte, 0, EncodedSize), magic...)
	for _, n := range shape {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	for _, v := range w.p {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// Decode reads what Encode wrote. It refuses, with an error that wraps [ErrWeights],
// another version or shape, damage, and parameters that are not finite.
func Decode(b []byte) (*Weights, error) {
	if len(b) < prefix || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("lstm: decode %d bytes: %w: no header", len(b), ErrWeights)
	}
	for i, want := range shape {
		if got := binary.LittleEndian.Uint16(b[len(magic)+2*i:]); got != want {
			return nil, fmt.Errorf("lstm: decode: %w: number %d of version and shape is %d, want %d", ErrWeights, i, got, want)
		}
	}
	if len(b) != EncodedSize {
		return nil, fmt.Errorf("lstm: decode: %w: %d bytes, want %d", ErrWeights, len(b), EncodedSize)
	}
	if got, want := xxhash.Sum64(b[:EncodedSize-8]), binary.LittleEndian.Uint64(b[EncodedSize-8:]); got != want {
		return nil, fmt.Errorf("lstm: decode: %w: checksum %016x, want %016x", ErrWeights, got, want)
	}
	w := &Weights{p: make([]float32, Size)}
	for i := range w.p {
		v := math.Float32frombits(binary.LittleEndian.Uint32(b[prefix+4*i:]))
		if v-v != 0 {
			return nil, fmt.Errorf("lstm: decode: %w: parameter %d is %v", ErrWeights, i, v)
		}
		w.p[i] = v
	}
	return w, nil
}

//go:embed weights.bin
var builtIn []byte

// Default gives the weights built in: trained on synthetic series alone by
//
//	go run ./forecaster/lstm/train -seed 1
func Default() (*Weights, error) {
	w, err := Decode(builtIn)
	if err != nil {
		return nil, fmt.Errorf("lstm: weights built in: %w", err)
	}
	return w, nil
}
