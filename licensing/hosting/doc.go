// Package hosting serves licensed models: it keeps a lease for each, shows those that
// may be used to an engine (licensing/modelfs), and stops the engine when they may not.
package hosting
