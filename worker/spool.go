package worker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// spool is a first-in first-out queue of pages in one file. The file loses its name at once: its space returns with the process, however
// that ends. Nothing in it is worth keeping longer: another process may not write under this one's fences. Hence no fsync either.
type spool struct {
	file        *os.File
	read, write int64 // offsets
}

func openSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool folder: %w", err)
	}
	f, err := os.CreateTemp(dir, "spool-*")
	if err != nil {
		return nil, fmt.Errorf("make spool file: %w", err)
	}
	_ = os.Remove(f.Name()) // where an open file keeps its name, close removes it
	return &spool{file: f}, nil
}

func (s *spool) empty() bool { return s == nil || s.read == s.write }

const lengthBytes = 4

// encodePage is a record: a length, and the page as JSON.
func encodePage(p page) ([]byte, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode page: %w", err)
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, lengthBytes+len(body)), uint32(len(body))), body...), nil
}

// append adds a record, wholly or not at all.
func (s *spool) append(record []byte) error {
	if _, err := s.file.WriteAt(record, s.write); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	s.write += int64(len(record))
	return nil
}

// pop takes the oldest page. freed is how many bytes of the disk that returned: those of the whole file, when it is empty.
func (s *spool) pop() (p page, freed int64, err error) {
	var head [lengthBytes]byte
	if _, err := s.file.ReadAt(head[:], s.read); err != nil {
		return page{}, 0, fmt.Errorf("read spool: %w", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := s.file.ReadAt(body, s.read+lengthBytes); err != nil {
		return page{}, 0, fmt.Errorf("read spool: %w", err)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return page{}, 0, fmt.Errorf("decode spooled page: %w", err)
	}
	s.read += int64(lengthBytes + len(body))
	if s.read < s.write {
		return p, 0, nil
	}
	if err := s.file.Truncate(0); err != nil {
		return page{}, 0, fmt.Errorf("empty spool: %w", err)
	}
	freed = s.write
	s.read, s.write = 0, 0
	return p, freed, nil
}

// close returns how many bytes of the disk it freed.
func (s *spool) close() int64 {
	_ = s.file.Close() // nothing in it is wanted any more
	_ = os.Remove(s.file.Name())
	return s.write
}

// budget bounds what all outboxes of a worker hold. One page is always let in, however large.
type budget struct {
	mu                  sync.Mutex
	memory, memoryBound int64
	disk, diskBound     int64 // bound 0: there is none
	changed             chan struct{}
}

func newBudget(memory, disk int64) *budget {
	return &budget{memoryBound: memory, diskBound: disk, changed: make(chan struct{})}
}

// changes is closed when room was freed after this call.
func (b *budget) changes() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *budget) reserveMemory(n int64) bool { return b.reserve(&b.memory, n, &b.memoryBound) }
func (b *budget) reserveDisk(n int64) bool   { return b.reserve(&b.disk, n, &b.diskBound) }
func (b *budget) freeMemory(n int64)         { b.free(&b.memory, n) }
func (b *budget) freeDisk(n int64)           { b.free(&b.disk, n) }

func (b *budget) reserve(used *int64, n int64, bound *int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *bound == 0 || *used > 0 && *used+n > *bound {
		return false
	}
	*used += n
	return true
}

func (b *budget) free(used *int64, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	*used -= n
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *budget) hasDisk() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.diskBound > 0
}

func (b *budget) loseDisk() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.diskBound = 0
}
