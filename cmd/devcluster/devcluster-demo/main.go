// Command devcluster-demo is the program in the demo image: an HTTP server whose
// every way of living and failing can be chosen.
//
//	GET /            its version and host name
//	GET /health      200, or never an answer if it hangs
//	GET /crash       ends with exit code 1
//	GET /hang        from now on /health does not answer
//	GET /print?lines=N  prints N numbered lines as fast as it can
//	GET /env?name=X  the value of an environment variable
//
// It prints a line per request, and one a second: "tick 1", "tick 2", …. A flag
// may also be given as an environment variable: --print-lines as PRINT_LINES. It
// ends at once on SIGTERM.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server is the program's state.
type server struct {
	hanging atomic.Bool
	// printing keeps other lines out of a run of numbered ones.
	printing sync.Mutex
}

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-end; os.Exit(0) }()
	if len(os.Args) > 1 && os.Args[1] == "pause" {
		select {}
	}

	listen := flag.String("listen", "", "ports to listen on, comma-separated (default: --port)")
	port := flag.Int("port", 8080, "port to listen on, unless --listen")
	crash := flag.Bool("crash", false, "print a few lines and end with exit code 1")
	crashAfter := flag.Duration("crash-after", 0, "end with exit code 1 after this long")
	hang := flag.Bool("hang", false, "never answer /health")
	lines := flag.Int("print-lines", 0, "print so many numbered lines as fast as possible, then serve")
	quiet := flag.Bool("quiet", false, "print no ticks")
	startDelay := flag.Duration("start-delay", 0, "wait this long before listening")
	flag.VisitAll(func(f *flag.Flag) {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := os.LookupEnv(name); ok && value != "" {
			if err := flag.Set(f.Name, value); err != nil {
				log.Fatalf("%s=%s: %v", name, value, err)
			}
		}
	})
	flag.Parse()

	log.Printf("demo version %s starting", os.Getenv("VERSION"))
	if *crash {
		log.Print("reading configuration")
		log.Print("connecting to the database")
		log.Print("fatal: cannot go on")
		os.Exit(1)
	}
	if *crashAfter > 0 {
		time.AfterFunc(*crashAfter, func() { log.Fatal("fatal: cannot go on") })
	}
	time.Sleep(*startDelay)

	s := &server{}
	s.hanging.Store(*hang)
	s.print(*lines)
	ports := []string{strconv.Itoa(*port)}
	if *listen != "" {
		ports = strings.Split(*listen, ",")
	}
	failed := make(chan error)
	for _, p := range ports {
		listener, err := net.Listen("tcp", ":"+strings.TrimSpace(p))
		if err != nil {
			log.Fatal(err)
		}
		log.Printf("listening on %s", listener.Addr())
		go func() { failed <- http.Serve(listener, s.routes()) }()
	}
	if !*quiet {
		go s.tick()
	}
	log.Fatal(<-failed)
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "demo version %s on %s\n", os.Getenv("VERSION"), host)
	})
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if s.hanging.Load() {
			<-r.Context().Done()
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) {
		log.Fatal("fatal: asked to crash")
	})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, _ *http.Request) {
		s.hanging.Store(true)
		fmt.Fprintln(w, "hanging")
	})
	mux.HandleFunc("/print", func(w http.ResponseWriter, r *http.Request) {
		lines, err := strconv.Atoi(r.FormValue("lines"))
		if err != nil {
			http.Error(w, "lines: not a number", http.StatusBadRequest)
			return
		}
		s.print(lines)
		fmt.Fprintln(w, "printed")
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getenv(r.FormValue("name")))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s from %s", r.Method, r.URL.RequestURI(), r.RemoteAddr)
		mux.ServeHTTP(w, r)
	})
}

func (s *server) tick() {
	for n := 1; ; n++ {
		time.Sleep(time.Second)
		log.Printf("tick %d", n)
	}
}

// print prints "line 1" to "line n", flat out.
func (s *server) print(n int) {
	s.printing.Lock()
	defer s.printing.Unlock()
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := range n {
		fmt.Fprintf(out, "line %d of %d: the quick brown fox jumps over the lazy dog\n", i+1, n)
	}
	_ = out.Flush()
}
