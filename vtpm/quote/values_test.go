package quote

import (
	"math/big"
	"testing"
)

// The values of an ECDSA signature are from 1 to the curve's order (FIPS 186-5,
// 6.4.2), which is not left to a library that may think otherwise.
func TestValuesOfASignature(t *testing.T) {
	ak := eccAK(keys().ak)
	p := must(parsePublic(ak.public()))
	order, message := keys().ak.Params().N, []byte("message")
	good := must(parseSignature(ak.sign(message)))
	for name, rs := range map[string][2]*big.Int{
		"r of 0":         {big.NewInt(0), new(big.Int).SetBytes(good.s)},
		"s of 0":         {new(big.Int).SetBytes(good.r), big.NewInt(0)},
		"r of the order": {order, new(big.Int).SetBytes(good.s)},
		"s of the order": {new(big.Int).SetBytes(good.r), order},
		"r beyond it":    {new(big.Int).Add(order, new(big.Int).SetBytes(good.r)), new(big.Int).SetBytes(good.s)},
		"nothing at all": {new(big.Int), new(big.Int)},
	} {
		sig := sized(sized([]byte{0, algECDSA, 0, algSHA256}, rs[0].Bytes()), rs[1].Bytes())
		says(t, name, verifySignature(p, sig, message), "r or s is not between 1 and the curve's order")
	}
	if err := verifySignature(p, sized(sized([]byte{0, algECDSA, 0, algSHA256}, good.r), good.s), message); err != nil {
		t.Error(err)
	}
}
