// Package dag walks a graph of steps in parallel.
package dag

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrSkipped says that a node did not run because one before it failed.
var ErrSkipped = errors.New("skipped")

// Node is one step.
type Node struct {
	ID     string
	After  []string // ids of nodes that have to succeed first
	Behind []string // ids of nodes that have to be over first, whatever came of them
	Run    func(context.Context) error
}

// Walk runs every node after those it depends on, at most parallel at a time.
// A failed node makes those after it fail with ErrSkipped; all others run, and
// those that only stand behind it, too. When
// ctx ends, no further node starts. It returns each node's error by id, nil for
// success. Nodes that could run at the same time start in the order given.
//
// A graph with a cycle, an unknown or a repeated id is a programming error and
// is refused before anything runs.
func Walk(ctx context.Context, nodes []Node, parallel int) (map[string]error, error) {
	if err := check(nodes); err != nil {
		return nil, err
	}
	type result struct {
		index int
		err   error
	}
	var (
		errs    = make(map[string]error, len(nodes))
		started = make([]bool, len(nodes))
		done    = make(chan result)
		running int
	)
	for len(errs) < len(nodes) {
		for progress := true; progress; {
			progress = false
			for i, n := range nodes {
				if started[i] {
					continue
				}
				ready, err := state(n, errs)
				if err == nil && ctx.Err() != nil {
					err = fmt.Errorf("%w: %w", ErrSkipped, context.Cause(ctx))
				}
				switch {
				case err != nil:
					started[i], progress = true, true
					errs[n.ID] = err
				case ready && running < parallel:
					started[i] = true
					running++
					go func() { done <- result{i, n.Run(ctx)} }()
				}
			}
		}
		if running == 0 {
			break
		}
		r := <-done
		running--
		errs[nodes[r.index].ID] = r.err
	}
	return errs, nil
}

// state tells whether n can run now, or why it never will.
func state(n Node, errs map[string]error) (ready bool, err error) {
	ready = true
	for _, id := range n.After {
		err, ended := errs[id]
		if !ended {
			ready = false
		} else if err != nil {
			return false, fmt.Errorf("%w: %s did not succeed", ErrSkipped, id)
		}
	}
	for _, id := range n.Behind {
		if _, ended := errs[id]; !ended {
			ready = false
		}
	}
	return ready, nil
}

func check(nodes []Node) error {
	byID := make(map[string]Node, len(nodes))
	for _, n := range nodes {
		if _, again := byID[n.ID]; again {
			return fmt.Errorf("graph: two nodes are called %q", n.ID)
		}
		byID[n.ID] = n
	}
	const visiting, visited = 1, 2
	mark := make(map[string]int, len(nodes))
	var visit func(n Node) error
	visit = func(n Node) error {
		switch mark[n.ID] {
		case visiting:
			return fmt.Errorf("graph: %q comes after itself", n.ID)
		case visited:
			return nil
		}
		mark[n.ID] = visiting
		for _, id := range slices.Concat(n.After, n.Behind) {
			before, ok := byID[id]
			if !ok {
				return fmt.Errorf("graph: %q comes after %q, which does not exist", n.ID, id)
			}
			if err := visit(before); err != nil {
				return err
			}
		}
		mark[n.ID] = visited
		return nil
	}
	for _, n := range nodes {
		if err := visit(n); err != nil {
			return err
		}
	}
	return nil
}
