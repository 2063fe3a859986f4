package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	callTimeout  = 30 * time.Second
	wholeTimeout = 2 * time.Minute  // of what touches all of a job, which may be a million inputs
	pollSlack    = 10 * time.Second // beyond the wait that a long poll asks for
	maxAnswer    = 256 << 20        // bytes of one JSON answer
)

// Client calls a Manager. It is safe for concurrent use. It never repeats a call: whoever has the work decides that, see Retryable.
// An answer of status 400 or more is a *Problem.
//
// After Join the worker calls (Lease, Renew, Submit, HandBack) speak with the session that Join brought, all others with the key:
// a Client serves one worker at a time, beside any number of other callers.
type Client struct {
	base    *url.URL
	key     Secret
	http    *http.Client
	writers *sync.Pool // of *gzip.Writer; nil: bodies are sent as they are
	session atomic.Pointer[Secret]
}

// NewClient returns a client of the Manager at baseURL (http or https, with a path if a proxy adds one). key may be empty
// for a Manager without authentication. rt nil is a transport of the client's own; InProcess gives one without a network.
func NewClient(baseURL string, key Secret, rt http.RoundTripper) (*Client, error) {
	base, err := url.Parse(baseURL)
	switch {
	case err != nil:
		return nil, errors.New("is no URL") // the parser's text repeats it, credentials and all
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("scheme %q is neither http nor https", base.Scheme)
	case base.Host == "":
		return nil, errors.New("has no host")
	case base.User != nil:
		return nil, errors.New("holds a user name: give the key apart from the URL")
	case base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("holds a query or fragment")
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = ""
	c := &Client{base: base, key: key}
	if _, local := rt.(inProcess); !local {
		c.writers = &sync.Pool{}
	}
	if rt == nil {
		rt = newTransport()
	}
	c.http = &http.Client{
		Transport: rt,
		// A redirected POST would arrive as a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.ResponseHeaderTimeout = 0 // calls have their own, long polls a longer one
	return t
}

// With returns a client of the same Manager and connections that speaks with another key and has not joined.
func (c *Client) With(key Secret) *Client {
	return &Client{base: c.base, key: key, http: c.http, writers: c.writers}
}

// Close ends the idle connections. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request.
type call struct {
	method  string
	path    string // escaped
	query   url.Values
	body    any
	header  http.Header
	key     Secret
	gzip    bool
	timeout time.Duration // 0: callTimeout
}

// do makes a call and decodes its JSON answer into out, unless out is nil.
func (c *Client) do(ctx context.Context, r call, out any) error {
	if r.timeout == 0 {
		r.timeout = callTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	res, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &url.Error{Op: "read answer of " + r.method, URL: r.path, Err: err}
	case len(body) > maxAnswer:
		return fmt.Errorf("%s %s: the answer is longer than %d bytes", r.method, r.path, maxAnswer)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("decode answer of %s %s: %w", r.method, r.path, err)
	}
	return nil
}

// open makes a call and returns its answer, which is of status 2xx; the caller closes its body.
func (c *Client) open(ctx context.Context, r call) (*http.Response, error) {
	body, encoding, err := c.encode(r)
	if err != nil {
		return nil, fmt.Errorf("encode body of %s %s: %w", r.method, r.path, err)
	}
	target := c.base.String() + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	if r.key == "" {
		r.key = c.key
	}
	if r.key != "" {
		req.Header.Set("Authorization", "Bearer "+r.key.Reveal())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err // a *url.Error names method and URL, which hold no secret
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, readProblem(res)
}

// encode writes the body. Its buffer is never pooled: a transport may read it after the call has failed.
func (c *Client) encode(r call) (_ io.Reader, encoding string, err error) {
	if r.body == nil {
		return nil, "", nil
	}
	var buf bytes.Buffer
	if !r.gzip || c.writers == nil {
		err := json.NewEncoder(&buf).Encode(r.body)
		return &buf, "", err
	}
	z, ok := c.writers.Get().(*gzip.Writer)
	if !ok {
		z, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	}
	defer c.writers.Put(z)
	z.Reset(&buf)
	if err := json.NewEncoder(z).Encode(r.body); err != nil {
		return nil, "", err
	}
	return &buf, "gzip", z.Close()
}

// expand fills the wildcards of a path constant, in their order.
func expand(path string, values ...string) string {
	for _, v := range values {
		before, rest, _ := strings.Cut(path, "{")
		_, after, _ := strings.Cut(rest, "}")
		path = before + url.PathEscape(v) + after
	}
	return path
}
