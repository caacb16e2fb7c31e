package notifytest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Answer is what a receiver answers instead of looking at a request.
type Answer struct {
	Status int
	Header map[string]string
	Body   string
	// Silence keeps the answer back until the sender hangs up.
	Silence bool
}

// Request is one that came in.
type Request struct {
	At     time.Time
	Header http.Header
	Body   []byte
}

// Inbox is what has come to a receiver. The zero value is ready for use.
type Inbox struct {
	mu       sync.Mutex
	plan     []Answer
	requests []Request
	accepted [][]byte
	problems []string
}

// Plan sets the answers to the next requests, one each.
func (i *Inbox) Plan(answers ...Answer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.plan = answers
}

// Requests returns all that came in, planned answers included.
func (i *Inbox) Requests() []Request {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.requests)
}

// Accepted returns the bodies of the requests that were taken.
func (i *Inbox) Accepted() [][]byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.accepted)
}

// Problems lists what was wrong with requests.
func (i *Inbox) Problems() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.problems)
}

func (i *Inbox) accept(body []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.accepted = append(i.accepted, body)
}

func (i *Inbox) refuse(format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.problems = append(i.problems, fmt.Sprintf(format, args...))
}

// take notes a request, and gives the answer that was planned for it, if any.
func (i *Inbox) take(w http.ResponseWriter, r *http.Request) (body []byte, answered bool) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		i.refuse("read a request: %v", err)
	}
	i.mu.Lock()
	i.requests = append(i.requests, Request{At: time.Now(), Header: r.Header.Clone(), Body: body})
	var answer *Answer
	if len(i.plan) > 0 {
		answer, i.plan = &i.plan[0], i.plan[1:]
	}
	i.mu.Unlock()
	if answer == nil {
		return body, false
	}
	if answer.Silence {
		<-r.Context().Done()
		return body, true
	}
	for name, value := range answer.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.Status)
	fmt.Fprint(w, answer.Body)
	return body, true
}

// Hook is an [http.Handler] that takes everything.
type Hook struct{ Inbox }

// ServeHTTP takes a request.
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if body, answered := h.take(w, r); !answered {
		h.accept(body)
	}
}
