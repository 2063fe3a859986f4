package worker

import (
	"errors"
	"log/slog"
	"sync"

	"gmaps-scraper/job"
)

// Summary is what a worker has done so far, as the Manager acknowledged it.
type Summary struct {
	Done       int `json:"done"`        // tasks
	Failed     int `json:"failed"`      // attempts that ended in an error
	HandedBack int `json:"handed_back"` // tasks
	Lost       int `json:"lost"`        // tasks whose lease ended under them
	Places     int `json:"places"`      // that the job did not have
	Duplicates int `json:"duplicates"`  // that it had
	Outside    int `json:"outside"`     // dropped: outside a strict area
	Panics     int `json:"panics"`      // of the engine
	Leases     int `json:"leases"`
	Batches    int `json:"batches"`
}

// LogValue shows what is not zero.
func (s Summary) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, f := range []struct {
		key string
		n   int
	}{
		{"done", s.Done}, {"failed", s.Failed}, {"handed_back", s.HandedBack}, {"lost", s.Lost}, {"places", s.Places},
		{"duplicates", s.Duplicates}, {"outside", s.Outside}, {"panics", s.Panics}, {"leases", s.Leases}, {"batches", s.Batches},
	} {
		if f.n != 0 {
			attrs = append(attrs, slog.Int(f.key, f.n))
		}
	}
	return slog.GroupValue(attrs...)
}

// Ending says why a worker's Run returned without an error.
type Ending string

// The endings.
const (
	EndedNoWork  Ending = "no more work"
	EndedDrained Ending = "told to end"                   // by its context
	EndedTaken   Ending = "another worker has this spawn" // it did nothing
	EndedOver    Ending = "its spawn has ended"           // what it had left was given to others
)

// Ending is empty until Run has returned, and after an error.
func (w *Worker) Ending() Ending {
	w.sums.mu.Lock()
	defer w.sums.mu.Unlock()
	return w.sums.ending
}

// ends notes why there will be no more leases.
func (w *Worker) ends(why Ending) error {
	w.sums.mu.Lock()
	defer w.sums.mu.Unlock()
	w.sums.ending = why
	return nil
}

// IsNoAnswer says of an error of Run that the Manager did not answer.
func IsNoAnswer(err error) bool { return errors.Is(err, errGaveUp) }

// Summary may be called at any time.
func (w *Worker) Summary() Summary {
	w.sums.mu.Lock()
	defer w.sums.mu.Unlock()
	return w.sums.Summary
}

type sums struct {
	mu sync.Mutex
	Summary
	ending Ending
}

func (s *sums) add(f func(*Summary)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.Summary)
}

func (s *sums) acknowledged(b job.Batch, a job.Ack) {
	s.add(func(s *Summary) {
		s.Batches++
		s.Places += a.New
		s.Duplicates += a.Duplicates
		for _, step := range b.Tasks {
			switch {
			case step.Done:
				s.Done++
			case step.Error != "":
				s.Failed++
			}
		}
	})
}
