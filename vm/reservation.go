package vm

import (
	"fmt"
	"strings"
)

// PlanReservation says which of a network's fixed leases r takes the place of:
// those of its MAC and of its host name. An address that somebody else holds is
// ErrForeign.
func PlanReservation(have []Reservation, r Reservation) (replaced []Reservation, err error) {
	for _, h := range have {
		same := strings.EqualFold(h.MAC, r.MAC) || h.Name != "" && h.Name == r.Name
		switch {
		case same:
			replaced = append(replaced, h)
		case h.Address == r.Address:
			return nil, fmt.Errorf("reserve %s for %s: reserved for %s (%q): %w", r.Address, r.MAC, h.MAC, h.Name, ErrForeign)
		}
	}
	return replaced, nil
}
