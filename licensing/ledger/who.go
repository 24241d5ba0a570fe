package ledger

import "context"

// who asked for a change, and by which request.
type who struct{ by, request string }

type whoKey struct{}

// On returns a context whose changes are logged with who asked for them, an address
// or a user, and the name of the request by which the server's own log knows it; ""
// for none.
func On(ctx context.Context, by, request string) context.Context {
	return context.WithValue(ctx, whoKey{}, who{by, request})
}

func whoOf(ctx context.Context) who {
	w, _ := ctx.Value(whoKey{}).(who)
	return w
}
