// Package gguftest makes language models in the format of llama.cpp, GGUF, for tests.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// What Llama's model is like.
const (
	width   = 32
	hidden  = 64
	heads   = 2
	context = 256
)

// Types of the metadata's values.
const (
	uint32Type  = 4
	int32Type   = 5
	float32Type = 6
	stringType  = 8
	arrayType   = 9
)

// Kinds of tokens.
const (
	normal  = 1
	unknown = 2
	control = 3
	single  = 6 // a byte
)

const alignment = 32 // of tensors

// Llama is a language model of one layer that answers with these words alone. What it
// answers depends on what it is asked and on the seed, and means nothing.
func Llama(seed uint64, words ...string) []byte {
	tokens, kinds := []string{"<unk>", "<s>", "</s>"}, []int32{unknown, control, control}
	for b := range 256 { // of which every text consists
		tokens, kinds = append(tokens, fmt.Sprintf("<0x%02X>", b)), append(kinds, single)
	}
	first := len(tokens)
	for _, w := range words {
		tokens, kinds = append(tokens, "▁"+w), append(kinds, normal)
	}
	var f file
	f.meta("general.architecture", "llama")
	f.meta("general.name", "gguftest")
	f.meta("llama.context_length", uint32(context))
	f.meta("llama.embedding_length", uint32(width))
	f.meta("llama.feed_forward_length", uint32(hidden))
	f.meta("llama.block_count", uint32(1))
	f.meta("llama.attention.head_count", uint32(heads))
	f.meta("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	f.meta("tokenizer.ggml.model", "llama")
	f.meta("tokenizer.ggml.tokens", tokens)
	f.meta("tokenizer.ggml.scores", make([]float32, len(tokens)))
	f.meta("tokenizer.ggml.token_type", kinds)
	f.meta("tokenizer.ggml.unknown_token_id", uint32(0))
	f.meta("tokenizer.ggml.bos_token_id", uint32(1))
	f.meta("tokenizer.ggml.eos_token_id", uint32(2))

	random := rand.New(rand.NewPCG(seed, seed))
	noise := func(from, n int) []float32 {
		values := make([]float32, n)
		for i := from; i < n; i++ {
			values[i] = float32(random.NormFloat64()) / 2
		}
		return values
	}
	ones := func() []float32 {
		values := make([]float32, width)
		for i := range values {
			values[i] = 1
		}
		return values
	}
	f.tensor("token_embd.weight", noise(0, width*len(tokens)), width, len(tokens))
	f.tensor("output_norm.weight", ones(), width)
	// All but the words are as likely as nothing is.
	f.tensor("output.weight", noise(width*first, width*len(tokens)), width, len(tokens))
	f.tensor("blk.0.attn_norm.weight", ones(), width)
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
		f.tensor("blk.0."+name+".weight", noise(0, width*width), width, width)
	}
	f.tensor("blk.0.ffn_norm.weight", ones(), width)
	f.tensor("blk.0.ffn_gate.weight", noise(0, width*hidden), width, hidden)
	f.tensor("blk.0.ffn_up.weight", noise(0, width*hidden), width, hidden)
	f.tensor("blk.0.ffn_down.weight", noise(0, width*hidden), hidden, width)
	return f.bytes()
}

// file is one in the making.
type file struct {
	metas, tensors bytes.Buffer
	metaN, tensorN uint64
	data           bytes.Buffer
}

func put(to *bytes.Buffer, values ...any) {
	for _, v := range values {
		if s, is := v.(string); is {
			put(to, uint64(len(s)))
			to.WriteString(s)
			continue
		}
		if err := binary.Write(to, binary.LittleEndian, v); err != nil {
			panic(err) // a value that has no size
		}
	}
}

func (f *file) meta(name string, value any) {
	f.metaN++
	put(&f.metas, name)
	switch v := value.(type) {
	case string:
		put(&f.metas, uint32(stringType), v)
	case uint32:
		put(&f.metas, uint32(uint32Type), v)
	case float32:
		put(&f.metas, uint32(float32Type), v)
	case []string:
		put(&f.metas, uint32(arrayType), uint32(stringType), uint64(len(v)))
		for _, s := range v {
			put(&f.metas, s)
		}
	case []float32:
		put(&f.metas, uint32(arrayType), uint32(float32Type), uint64(len(v)), v)
	case []int32:
		put(&f.metas, uint32(arrayType), uint32(int32Type), uint64(len(v)), v)
	}
}

// tensor is one of 32-bit floats, whose first dimension is that of values beside each
// other.
func (f *file) tensor(name string, values []float32, dimensions ...int) {
	f.tensorN++
	put(&f.tensors, name, uint32(len(dimensions)))
	for _, d := range dimensions {
		put(&f.tensors, uint64(d))
	}
	put(&f.tensors, uint32(0), uint64(f.data.Len()))
	put(&f.data, values)
	pad(&f.data)
}

func pad(b *bytes.Buffer) {
	for b.Len()%alignment != 0 {
		b.WriteByte(0)
	}
}

func (f *file) bytes() []byte {
	var all bytes.Buffer
	all.WriteString("GGUF")
	put(&all, uint32(3), f.tensorN, f.metaN, f.metas.Bytes(), f.tensors.Bytes())
	pad(&all)
	all.Write(f.data.Bytes())
	return all.Bytes()
}
