package tensorjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
)

func read(text string, t inference.Type) ([]byte, []int64, error) {
	r := NewReader([]byte(text))
	r.Base64 = true
	data, shape, err := r.AppendElements(nil, t)
	if err == nil {
		err = r.End()
	}
	return data, shape, err
}

// TestElements: what is read is written as the same, and has the shape of its arrays.
func TestElements(t *testing.T) {
	for _, tt := range []struct {
		typ   inference.Type
		text  string
		shape []int64
		back  string // the text where it is not the same
	}{
		{inference.Bool, `[[true,false]]`, []int64{1, 2}, ""},
		{inference.Uint8, `[0,255]`, []int64{2}, ""},
		{inference.Uint16, `65535`, []int64{}, ""},
		{inference.Uint32, `[4294967295]`, []int64{1}, ""},
		{inference.Uint64, `[18446744073709551615]`, []int64{1}, ""},
		{inference.Int8, `[-128,127]`, []int64{2}, ""},
		{inference.Int16, `[-32768]`, []int64{1}, ""},
		{inference.Int32, `[-2147483648]`, []int64{1}, ""},
		{inference.Int64, `[-9223372036854775808]`, []int64{1}, ""},
		{inference.Float32, `[0.1,1e-45,-0.0,1.6777216e+07,3.4028235e+38]`, []int64{5}, ""},
		{inference.Float32, ` [ [ [1, 2] , [3 ,4E0] ] ] `, []int64{1, 2, 2}, `[[[1.0,2.0],[3.0,4.0]]]`},
		{inference.Float64, `[NaN,Infinity,-Infinity,5e-324]`, []int64{4}, ""},
		{inference.Bytes, `["","é","a\"\\\u000a",{"b64":"YWI="}]`, []int64{4}, `["","é","a\"\\\u000a","ab"]`},
		{inference.Bytes, `["\ud83d\ude00\n\/",{"b64":"YWI"}]`, []int64{2}, "[\"😀\\u000a/\",\"ab\"]"},
		{inference.Int32, `[]`, []int64{0}, ""},
		{inference.Int32, `[[],[]]`, []int64{2, 0}, ""},
	} {
		data, shape, err := read(tt.text, tt.typ)
		if err != nil {
			t.Errorf("%s of %s: %v", tt.text, tt.typ, err)
			continue
		}
		if !slices.Equal(shape, tt.shape) {
			t.Errorf("%s of %s has shape %v, want %v", tt.text, tt.typ, shape, tt.shape)
		}
		values, err := NewValues(inference.Tensor{Type: tt.typ, Shape: shape, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		back, err := values.Append(nil, shape)
		if want := strings.TrimSpace(tt.back); err != nil || string(back) != want && (want != "" || string(back) != tt.text) {
			t.Errorf("%s of %s is written as %s, %v", tt.text, tt.typ, back, err)
		}
	}
}

// TestRefused: each with the one that is right beside it.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		typ         inference.Type
		right, text string
		says        string
	}{
		{inference.Uint8, `[255]`, `[256]`, "256 is not of type UINT8"},
		{inference.Uint8, `[0]`, `[-1]`, "-1 is not of type UINT8"},
		{inference.Int8, `[-128]`, `[-129]`, "-129 is not of type INT8"},
		{inference.Int64, `[1]`, `[1.0]`, "1.0 is not of type INT64"},
		{inference.Int64, `[1]`, `[NaN]`, "where an element of type INT64"},
		{inference.Float32, `[1e38]`, `[1e39]`, "1e39 is not of type FP32"},
		{inference.Float32, `[1]`, `[true]`, "where an element of type FP32"},
		{inference.Float32, `[1]`, `["1"]`, "where an element of type FP32"},
		{inference.Float32, `[1]`, `[null]`, "where an element of type FP32"},
		{inference.Float32, `[0]`, `[01]`, "where a value"},
		{inference.Float32, `[1]`, `[+1]`, "where an element"},
		{inference.Float32, `[1.0]`, `[1.]`, "digits"},
		{inference.Float32, `[1e1]`, `[1e]`, "digits"},
		{inference.Float32, `[-1]`, `[-]`, "where a value"},
		{inference.Float32, `[1,2]`, `[1,2`, "it ends"},
		{inference.Float32, `[1]`, `[1,]`, "where an element"},
		{inference.Float32, `[1]`, `[1] 2`, "where the end"},
		{inference.Float32, `[[1],[2]]`, `[[1],2]`, "an element where arrays"},
		{inference.Float32, `[1,2]`, `[1,[2]]`, "an array where elements"},
		{inference.Float32, `[[1,2],[3,4]]`, `[[1,2],[3]]`, "an array of 1 beside one of 2"},
		{inference.Float32, `[[],[]]`, `[[],[1]]`, "an array of 1 beside one of 0"},
		{inference.Float32, `[[],[]]`, `[[],[[]]]`, "an array where elements"},
		{inference.Bool, `[true]`, `[1]`, "where an element of type BOOL"},
		{inference.Bool, `[true]`, `[tru]`, "where a value"},
		{inference.Bytes, `["a"]`, `[1]`, "where an element of type BYTES"},
		{inference.Bytes, `["a"]`, `["a`, "it ends in a string"},
		{inference.Bytes, `["\u0001"]`, "[\"\x01\"]", "control character"},
		{inference.Bytes, `["é"]`, "[\"\xff\"]", "not UTF-8"},
		{inference.Bytes, `["\ud83d\ude00"]`, `["\ud83d"]`, "surrogate"},
		{inference.Bytes, `["\ud83d\ude00"]`, `["\ude00\ud83d"]`, "surrogate"},
		{inference.Bytes, `["\n"]`, `["\x"]`, "escape"},
		{inference.Bytes, `["\u00e9"]`, `["\u00g9"]`, "escape"},
		{inference.Bytes, `[{"b64":"YQ=="}]`, `[{"b64":"YQ!"}]`, "base64"},
		{inference.Bytes, `[{"b64":"YQ=="}]`, `[{"b64":"YQ==","x":1}]`, `"x" beside`},
		{inference.Bytes, `[{"b64":"YQ=="}]`, `[{}]`, `without "b64"`},
		{inference.Float16, ``, `[1]`, "send it as binary data"},
		{inference.Float32, strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65), "more than 64"},
	} {
		if tt.right != "" {
			if _, _, err := read(tt.right, tt.typ); err != nil {
				t.Errorf("%s of %s: %v", tt.right, tt.typ, err)
			}
		}
		_, _, err := read(tt.text, tt.typ)
		if !errors.Is(err, inference.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s of %s: %v, want %q", tt.text, tt.typ, err, tt.says)
		}
	}
}

func TestObjectsHaveAMemberOnce(t *testing.T) {
	for text, says := range map[string]string{`{"a":1,"b":[{"a":1}]}`: "", `{"a":1,"\u0061":2}`: "twice", `{"a":{"b":1,"b":1}}`: "twice", `{"a" 1}`: "':'", `{a:1}`: "a string"} {
		_, err := NewReader([]byte(text)).Skip()
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func TestObjectsHaveSomeMembers(t *testing.T) {
	for more, want := range map[int]bool{0: true, 1: false} {
		text := []byte{'{'}
		for i := range MaxMembers + more {
			text = fmt.Appendf(text, `"%d":0,`, i)
		}
		text[len(text)-1] = '}'
		if _, err := NewReader(text).Skip(); (err == nil) != want {
			t.Errorf("with %d more: %v", more, err)
		}
	}
}

func TestIsBase64(t *testing.T) {
	for text, want := range map[string]bool{` { "b64" : "" } `: true, `["b64"]`: false, `{"x":{"b64":""}}`: false, `{}`: false, `{`: false, ``: false, `"b64"`: false} {
		if got := NewReader([]byte(text)).IsBase64(); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func TestUTF8(t *testing.T) {
	for text, want := range map[string]bool{"é": true, "": true, "\xff": false} {
		v, err := NewValues(inference.Tensor{Type: inference.Bytes, Shape: []int64{2}, Data: inference.AppendText(inference.AppendText(nil, []byte("a")), []byte(text))})
		if err != nil || v.UTF8() != want {
			t.Errorf("%q: %v, want %t", text, err, want)
		}
	}
}

func TestNotText(t *testing.T) {
	for _, tensor := range []inference.Tensor{
		{Type: inference.BFloat16, Data: []byte{0, 0}},
		{Type: inference.Bytes, Data: inference.AppendText(nil, []byte{0xff})},
	} {
		v, err := NewValues(tensor)
		if err == nil {
			_, err = v.Append(nil, nil)
		}
		if !errors.Is(err, ErrNotText) {
			t.Errorf("%s: %v", tensor.Type, err)
		}
	}
}

// FuzzSkip: what it takes is JSON, and what is JSON it takes, but for what it refuses
// on purpose and the numbers that JSON cannot write.
func FuzzSkip(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e-3,true,null,"x\u00e9\ud83d\ude00"]}`, `[[],{}]`, `-0`, `"\ud83d"`, `[NaN,-Infinity]`, "\"\xff\"", `{"a":1,"a":2}`, `00`, ` 1 `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := NewReader(text)
		_, err := r.Skip()
		if err == nil {
			err = r.End()
		}
		valid := json.Valid(text)
		switch {
		case err == nil && !valid && !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")):
			t.Errorf("%q is not JSON", text)
		case err != nil && valid:
			says := err.Error()
			for _, purpose := range []string{"twice", "surrogate", "UTF-8", "more than"} {
				if strings.Contains(says, purpose) {
					return
				}
			}
			t.Errorf("%q is JSON: %v", text, err)
		}
		if err != nil && !errors.Is(err, inference.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzElements: what is read of FP64 and BYTES is what encoding/json reads, and is
// written so that it is read as the same.
func FuzzElements(f *testing.F) {
	for _, seed := range []string{`[[1,2.5],[3e4,-0]]`, `["a","\u00e9"]`, `[[[]]]`, `7`, `["x",{"b64":"YQ=="}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, typ := range []inference.Type{inference.Float64, inference.Float32, inference.Int16, inference.Uint64, inference.Bool, inference.Bytes} {
			data, shape, err := read(string(text), typ)
			if err != nil {
				continue
			}
			tensor := inference.Tensor{Type: typ, Shape: shape, Data: data}
			v, err := NewValues(tensor)
			if err != nil {
				t.Fatalf("%q of %s: %v", text, typ, err)
			}
			v.Base64 = !v.UTF8()
			back, err := v.Append(nil, shape)
			if err != nil {
				t.Fatal(err)
			}
			again, shapeAgain, err := read(string(back), typ)
			if err != nil || !bytes.Equal(again, data) && !hasNaN(typ, data) || !slices.Equal(shape, shapeAgain) {
				t.Errorf("%q of %s is written as %q, %v", text, typ, back, err)
			}
			if typ == inference.Float64 && len(shape) == 1 {
				var floats []float64
				want := []byte{}
				if json.Unmarshal(text, &floats) != nil {
					continue // NaN
				}
				for _, f := range floats {
					want = binary.LittleEndian.AppendUint64(want, math.Float64bits(f))
				}
				if !bytes.Equal(data, want) {
					t.Errorf("%q has %v, and was read as %x", text, floats, data)
				}
			}
		}
	})
}

func hasNaN(t inference.Type, data []byte) bool {
	if t == inference.Float32 || t == inference.Float64 {
		for i := 0; i+t.Size() <= len(data); i += t.Size() {
			bits := uint64(0)
			for j := range t.Size() {
				bits |= uint64(data[i+j]) << (8 * j)
			}
			if t == inference.Float64 && math.IsNaN(math.Float64frombits(bits)) || t == inference.Float32 && math.IsNaN(float64(math.Float32frombits(uint32(bits)))) {
				return true
			}
		}
	}
	return false
}
