package provision

import "time"

// EventKind says what an event tells.
type EventKind string

const (
	Started   EventKind = "start"
	Progress  EventKind = "progress"
	Completed EventKind = "done"
	Failed    EventKind = "failed"
	Skipped   EventKind = "skipped"
	Note      EventKind = "note"
)

// Event is one thing that happened in a run. Steps are told by their address,
// "role.runtime/disk" or "image.debian".
type Event struct {
	Time    time.Time     `json:"time"`
	Kind    EventKind     `json:"event"`
	Step    string        `json:"step"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	Stage   string        `json:"stage,omitempty"` // of progress
	Done    int64         `json:"done,omitempty"`  // of progress, bytes
	Total   int64         `json:"total,omitempty"`
	Text    string        `json:"text,omitempty"` // the error, the reason, the note
}

// Phase is one step of a role, as the report at the end shows it.
type Phase struct {
	Name    string        `json:"name"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// RoleReport tells how a role fared.
type RoleReport struct {
	Role   string  `json:"role"`
	Action Action  `json:"action"`
	Phases []Phase `json:"phases"`
	Failed string  `json:"failed,omitempty"` // the phase that failed
	Error  string  `json:"error,omitempty"`
	Hint   string  `json:"hint,omitempty"` // what the user can do about it
}

// HostReport tells why the host is not enrolled.
type HostReport struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// Report tells how a run went, in the order of the plan.
type Report struct {
	Roles   []RoleReport  `json:"roles"`
	Host    *HostReport   `json:"host,omitempty"` // nil: nothing failed
	Elapsed time.Duration `json:"elapsed_ns"`
}
