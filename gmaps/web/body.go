package web

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"sync"
)

const (
	maxBody   = 32 << 20 // of an uncompressed answer; a search page has half a MB
	maxPooled = 4 << 20  // larger buffers are left to the garbage collector
)

var errTooLarge = fmt.Errorf("answer is larger than %d MiB", maxBody>>20)

// bodies reads answers into buffers that are used again, as are the decompressors: together they are most of what an engine would allocate.
type bodies struct {
	buffers sync.Pool // *bytes.Buffer
	readers sync.Pool // *gzip.Reader
}

// read returns the uncompressed body of resp, to be put back by the caller, and how many bytes came over the wire.
func (p *bodies) read(resp *http.Response) (body *bytes.Buffer, received int64, err error) {
	wire := &countingReader{from: resp.Body}
	body, _ = p.buffers.Get().(*bytes.Buffer)
	if body == nil {
		body = new(bytes.Buffer)
	}
	body.Reset()

	var plain io.Reader = wire
	if resp.Header.Get("Content-Encoding") == "gzip" && resp.ContentLength != 0 {
		unzip, _ := p.readers.Get().(*gzip.Reader)
		if unzip == nil {
			unzip = new(gzip.Reader)
		}
		defer p.readers.Put(unzip)
		if err := unzip.Reset(wire); err != nil {
			p.put(body)
			return nil, wire.n, err
		}
		plain = unzip
	}
	_, err = body.ReadFrom(io.LimitReader(plain, maxBody+1))
	if err == nil && body.Len() > maxBody {
		err = errTooLarge
	}
	if err != nil {
		p.put(body)
		return nil, wire.n, err
	}
	return body, wire.n, nil
}

func (p *bodies) put(body *bytes.Buffer) {
	if body.Cap() <= maxPooled {
		p.buffers.Put(body)
	}
}

type countingReader struct {
	from io.Reader
	n    int64
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.n += int64(n)
	return n, err
}
