package licenseserver

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

// h2EngineMain is a model's server that speaks HTTP/1.1 and, at another port, HTTP/2
// without TLS: it serves files of its first argument, and says of what it is sent how
// long it is and how it came.
func h2EngineMain() {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(os.Args[1])))
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d %v", r.Proto, n, err)
	})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error)
	for _, port := range os.Args[2:] {
		server := http.Server{Addr: "127.0.0.1:" + port, Handler: mux, Protocols: protocols}
		go func() { ended <- server.ListenAndServe() }()
	}
	fmt.Fprintln(os.Stderr, <-ended)
	os.Exit(1)
}
