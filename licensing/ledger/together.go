package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// needs is what a change will read, where it can say so beforehand. What all changes
// of a transaction need is read by as many statements as for one of them, and what
// they write is written so: see ahead and pending.
type needs struct {
	lease  string // that it renews
	claim  *Claim
	take   string // a challenge
	offers bool   // it reads nothing
}

// turn is the order of changes in a transaction: those that have read beforehand what
// others change come first.
func (n needs) turn() int {
	switch {
	case n == needs{}:
		return 2
	case n.claim != nil:
		return 1
	}
	return 0
}

// ahead is what was read for all changes of a transaction together.
type ahead struct {
	leases   map[string]*heldLease // nil for one that nobody holds
	licences map[Key]*Licence      // the terms; nil where there is none
	subjects map[Subject]bool      // whether they are revoked
	taken    map[string]offered
}

type offered struct {
	data    []byte
	expires int64
}

// good says that none of the subjects was revoked. Else that has to be asked.
func (a ahead) good(subjects []Subject) bool {
	for _, s := range subjects {
		if revoked, asked := a.subjects[s]; revoked || !asked {
			return false
		}
	}
	return true
}

// prepare reads what changes need.
func (t *txn) prepare(changes []change) error {
	var leases, challenges []string
	var licences []Key
	subjects := map[Subject]bool{}
	for _, c := range changes {
		switch n := c.needs; {
		case n.lease != "":
			leases = append(leases, n.lease)
		case n.take != "":
			challenges = append(challenges, n.take)
		case n.claim != nil:
			licences = append(licences, Key{n.claim.GUID, n.claim.Model})
			subjects[Subject{KindLicence, n.claim.GUID}] = false
			for _, s := range n.claim.Subjects {
				subjects[s] = false
			}
		}
	}
	var err error
	if t.ahead.taken, err = t.take(challenges); err != nil {
		return err
	}
	if t.ahead.licences, err = t.readTerms(licences); err != nil {
		return err
	}
	if t.ahead.leases, err = t.readLeases(leases); err != nil {
		return err
	}
	for _, l := range t.ahead.leases {
		if l == nil {
			continue
		}
		subjects[Subject{KindLicence, l.GUID}] = false
		for _, s := range l.subjects {
			subjects[s] = false
		}
	}
	t.ahead.subjects = subjects
	return t.readRevoked(subjects)
}

// query runs a statement with a list of rows in the place of %s, and has scan called
// with each row of its answer. The list is longer than it has to be, so that there are
// few such statements to prepare.
func (t *txn) query(statement string, columns int, list [][]any, scan func(scanner) error) error {
	if len(list) == 0 {
		return nil
	}
	result, err := t.tx.QueryContext(t.ctx, fmt.Sprintf(statement, rows(size(list), columns)), flat(list)...)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		if err := scan(result); err != nil {
			return err
		}
	}
	return result.Err()
}

// size is the number of rows that a list of them is padded to.
func size(list [][]any) int {
	n := 1
	for n < len(list) {
		n *= 2
	}
	return n
}

// flat are the arguments of a list of rows, the last repeated up to its size.
func flat(list [][]any) []any {
	var args []any
	for i := range size(list) {
		args = append(args, list[min(i, len(list)-1)]...)
	}
	return args
}

// lease is a lease that somebody holds, or held and nobody was told that it ended; nil
// for none.
func (t *txn) lease(id string) (*heldLease, error) {
	if l, asked := t.ahead.leases[id]; asked {
		return l, nil
	}
	list, err := t.readLeases([]string{id})
	return list[id], err
}

func (t *txn) readLeases(ids []string) (map[string]*heldLease, error) {
	list, ask := map[string]*heldLease{}, [][]any(nil)
	for _, id := range ids {
		list[id] = nil
		ask = append(ask, []any{id})
	}
	err := t.query(`SELECT leases.id, leases.guid, leases.model, guest, issued, expires, renewals, logged, subjects, type, instances, not_after
		FROM leases JOIN licences ON licences.guid = leases.guid AND licences.model = leases.model
		WHERE leases.id IN (VALUES %s) AND ended = 0 AND archived = 0`, 1, ask, func(row scanner) error {
		var h heldLease
		var subjects string
		var issued, expires, notAfter int64
		if err := row.Scan(&h.ID, &h.GUID, &h.Model, &h.Guest, &issued, &expires, &h.renewals, &h.logged, &subjects,
			&h.licence.Type, &h.licence.Instances, &notAfter); err != nil {
			return err
		}
		h.Issued, h.Expires = unstamp(issued), unstamp(expires)
		h.licence.GUID, h.licence.Model, h.licence.NotAfter = h.GUID, h.Model, unstamp(notAfter)
		list[h.ID] = &h
		return json.Unmarshal([]byte(subjects), &h.subjects)
	})
	return list, err
}

// terms is a licence without its documents. ErrNoLicence is a refusal.
func (t *txn) terms(k Key) (Licence, error) {
	lic, asked := t.ahead.licences[k]
	if !asked {
		list, err := t.readTerms([]Key{k})
		if err != nil {
			return Licence{}, err
		}
		lic = list[k]
	}
	if lic == nil {
		return Licence{}, &refused{ErrNoLicence}
	}
	return *lic, nil
}

func (t *txn) readTerms(keys []Key) (map[Key]*Licence, error) {
	list, ask := map[Key]*Licence{}, [][]any(nil)
	for _, k := range keys {
		if _, twice := list[k]; !twice {
			ask = append(ask, []any{k.GUID, k.Model})
		}
		list[k] = nil
	}
	err := t.query(`SELECT guid, model, type, instances, not_after, archived FROM licences WHERE (guid, model) IN (VALUES %s)`, 2, ask, func(row scanner) error {
		var lic Licence
		var notAfter, archived int64
		err := row.Scan(&lic.GUID, &lic.Model, &lic.Type, &lic.Instances, &notAfter, &archived)
		lic.NotAfter, lic.Archived = unstamp(notAfter), unstamp(archived)
		list[lic.Key()] = &lic
		return err
	})
	return list, err
}

// readRevoked notes which of the subjects are.
func (t *txn) readRevoked(subjects map[Subject]bool) error {
	var ask [][]any
	for s := range subjects {
		ask = append(ask, []any{string(s.Kind), s.ID})
	}
	return t.query(`SELECT kind, subject FROM revocations WHERE (kind, subject) IN (VALUES %s)`, 2, ask, func(row scanner) error {
		var s Subject
		err := row.Scan(&s.Kind, &s.ID)
		subjects[s] = true
		return err
	})
}

// take removes challenges, in the order in which every server does.
func (t *txn) take(ids []string) (map[string]offered, error) {
	list, ask := map[string]offered{}, [][]any(nil)
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		ask = append(ask, []any{id})
	}
	err := t.query(`DELETE FROM challenges WHERE id IN (VALUES %s) RETURNING id, data, expires`, 1, ask, func(row scanner) error {
		var id string
		var c offered
		err := row.Scan(&id, &c.data, &c.expires)
		list[id] = c
		return err
	})
	return list, err
}

// pending is what the changes of a transaction have decided and nobody has read yet.
type pending struct {
	renewed map[string]renewed
	ended   map[holder]int64
	given   []givenLease
	claims  map[Key]int
	offered [][]any
}

// renewed is a lease as it was read and as it is to be.
type renewed struct{ was, is heldLease }

// holder is a guest that has leases of a licence.
type holder struct {
	Key
	guest string
}

type givenLease struct {
	Lease
	subjects string
	ended    int64
}

// renewed has a lease written as it is. Those that renew it again read it so.
func (t *txn) renewed(was, is heldLease) {
	if before, twice := t.pending.renewed[is.ID]; twice {
		was = before.was
	}
	if t.pending.renewed == nil {
		t.pending.renewed = map[string]renewed{}
	}
	t.pending.renewed[is.ID] = renewed{was, is}
	t.ahead.leases[is.ID] = &is
}

// end has a guest's leases of a licence end.
func (p *pending) end(k Key, guest string, now time.Time) {
	h := holder{k, guest}
	for i, g := range p.given {
		if (holder{Key{g.GUID, g.Model}, g.Guest}) == h && g.ended == 0 {
			p.given[i].ended = stamp(now)
		}
	}
	if p.ended == nil {
		p.ended = map[holder]int64{}
	}
	p.ended[h] = stamp(now)
}

// give has a lease given, and counted.
func (p *pending) give(lease Lease, subjects string) {
	p.given = append(p.given, givenLease{lease, subjects, 0})
	if p.claims == nil {
		p.claims = map[Key]int{}
	}
	p.claims[Key{lease.GUID, lease.Model}]++
}

// flush writes what is pending.
func (t *txn) flush() error {
	p := t.pending
	t.pending = pending{}
	if err := t.writeRenewed(p.renewed); err != nil {
		return err
	}
	var ended, claims, given [][]any
	for h, at := range p.ended {
		ended = append(ended, []any{h.GUID, h.Model, h.guest, at})
	}
	for k, n := range p.claims {
		claims = append(claims, []any{k.GUID, k.Model, n})
	}
	for _, g := range p.given {
		given = append(given, []any{g.ID, g.GUID, g.Model, g.Guest, stamp(g.Issued), stamp(g.Expires), g.ended, g.subjects})
	}
	if _, err := t.writeBy(`UPDATE leases SET ended = v.column4 FROM (VALUES %s) AS v
		WHERE leases.guest = v.column3 AND leases.guid = v.column1 AND leases.model = v.column2 AND leases.ended = 0`, "TTTN", ended); err != nil {
		return err
	}
	if err := t.add(`leases (id, guid, model, guest, issued, expires, ended, subjects)`, given); err != nil {
		return err
	}
	if _, err := t.writeBy(`UPDATE licences SET claims = claims + v.column3 FROM (VALUES %s) AS v
		WHERE licences.guid = v.column1 AND licences.model = v.column2`, "TTN", claims); err != nil {
		return err
	}
	return t.add(`challenges (id, data, expires)`, p.offered)
}

// writeRenewed writes renewals of leases that are as they were read: no other server
// renewed them, or ended them to give their place away.
func (t *txn) writeRenewed(list map[string]renewed) error {
	var values [][]any
	for _, id := range slices.Sorted(maps.Keys(list)) {
		r := list[id]
		values = append(values, []any{id, stamp(r.is.Expires), r.is.renewals, r.is.logged, r.was.renewals, r.was.logged})
	}
	n, err := t.writeBy(`UPDATE leases SET expires = v.column2, renewals = v.column3, logged = v.column4 FROM (VALUES %s) AS v
		WHERE leases.id = v.column1 AND leases.ended = 0 AND leases.renewals = v.column5 AND leases.logged = v.column6`, "TNNNNN", values)
	if err == nil && n != len(values) {
		return errMeanwhile
	}
	return err
}

// types of columns in a list of rows.
var types = map[rune]string{'T': "TEXT", 'N': "BIGINT"}

// writeBy runs a statement that changes rows by a list of them, in the place of %s,
// whose columns have types. It returns how many it changed.
func (t *txn) writeBy(statement, columns string, list [][]any) (int, error) {
	if len(list) == 0 {
		return 0, nil
	}
	// The types of the first row are those of all.
	var first []string
	for i, c := range columns {
		first = append(first, fmt.Sprintf("CAST($%d AS %s)", i+1, types[c]))
	}
	_, others, _ := strings.Cut(rows(size(list), len(columns)), ")")
	done, err := t.tx.ExecContext(t.ctx, fmt.Sprintf(statement, "("+strings.Join(first, ", ")+")"+others), flat(list)...)
	if err != nil {
		return 0, err
	}
	n, err := done.RowsAffected()
	return int(n), err
}

// add adds rows to a table.
func (t *txn) add(table string, list [][]any) error {
	for some := range slices.Chunk(list, maxRows) {
		if _, err := t.tx.ExecContext(t.ctx, `INSERT INTO `+table+` VALUES `+rows(len(some), len(some[0])), slices.Concat(some...)...); err != nil {
			return err
		}
	}
	return nil
}
