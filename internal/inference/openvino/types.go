package openvino

import (
	"fmt"
	"strings"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// elementTypes are OpenVINO's types (ov_element_type_e), in the order of their numbers,
// as they are since 2026. What has no type of ours is not served: elements of less than a
// byte, those that only weights have, and texts, which its C interface does not give out.
var elementTypes = []struct {
	name   string
	served inference.Type
}{
	{"DYNAMIC", 0}, {"BOOLEAN", inference.Bool},
	{"BF16", inference.BFloat16}, {"F16", inference.Float16}, {"F32", inference.Float32}, {"F64", inference.Float64},
	{"I4", 0}, {"I8", inference.Int8}, {"I16", inference.Int16}, {"I32", inference.Int32}, {"I64", inference.Int64},
	{"U1", 0}, {"U2", 0}, {"U3", 0}, {"U4", 0}, {"U6", 0},
	{"U8", inference.Uint8}, {"U16", inference.Uint16}, {"U32", inference.Uint32}, {"U64", inference.Uint64},
	{"NF4", 0}, {"F8E4M3", 0}, {"F8E5M3", 0}, {"STRING", 0}, {"F4E2M1", 0}, {"F8E8M0", 0},
}

// typeOf is our type of OpenVINO's.
func typeOf(number uint32) (inference.Type, error) {
	if uint64(number) >= uint64(len(elementTypes)) {
		return 0, fmt.Errorf("it is of a type that OpenVINO gives the number %d, and that is not served", number)
	}
	if t := elementTypes[number]; t.served == 0 {
		return 0, fmt.Errorf("it is of OpenVINO's type %s, which is not served", strings.ToLower(t.name))
	}
	return elementTypes[number].served, nil
}

// distinct are the names of ports, so that each can be asked for: PREFIX_0 for the first
// if it has none, as OpenVINO Model Server names it, and others where two are the same.
func distinct(names []string, prefix string) []string {
	taken := make(map[string]bool)
	for _, n := range names {
		taken[n] = true
	}
	given := make(map[string]bool)
	all := make([]string, len(names))
	for i, n := range names {
		if n == "" {
			n = fmt.Sprintf("%s_%d", prefix, i)
		}
		for k := 1; given[n] || n != names[i] && taken[n]; k++ {
			n = fmt.Sprintf("%s_%d.%d", prefix, i, k)
		}
		given[n] = true
		all[i] = n
	}
	return all
}
