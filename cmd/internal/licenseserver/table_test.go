package licenseserver

import "testing"

func TestTable(t *testing.T) {
	if err := Program(Machine()).Check(); err != nil {
		t.Error(err)
	}
}
