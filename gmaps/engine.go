package gmaps

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"
)

// Engine finds the places of a query.
type Engine interface {
	// Search yields the places of q page by page, beginning at cursor from ("" is the start; else the Cursor of a page
	// that an engine of the same kind yielded for an equal query). A place may come more than once, over pages and over calls.
	// Cancelling ctx ends the sequence with ctx's cause. An error ends it; pages yielded before stay good.
	// *BlockedError: Google refused; try later or elsewhere. Other errors say what was asked.
	Search(ctx context.Context, q Query, from Cursor) iter.Seq2[Page, error]
}

// Cursor is where a search stands: opaque to all but its engine, small, safe to keep as text.
type Cursor string

// Page is one step of a search.
type Page struct {
	Places []Place
	// Cursor continues after this page. It is empty on the last page.
	Cursor Cursor
	// Saturated is set on the last page when the search ended at a page limit, Google's or the query's:
	// smaller viewports would bring more.
	Saturated bool
}

// BlockedError says that Google answered, but not with what was asked: it is never an empty result.
type BlockedError struct {
	Kind BlockKind
	// RetryAfter is Google's own wish; 0 if it named none.
	RetryAfter time.Duration
	URL        string
}

// BlockKind is how Google refused.
type BlockKind string

// The ways in which Google refuses.
const (
	BlockedRate     BlockKind = "rate"     // status 429
	BlockedCaptcha  BlockKind = "captcha"  // /sorry/ or a captcha form
	BlockedConsent  BlockKind = "consent"  // the consent page, again after it was answered
	BlockedLimited  BlockKind = "limited"  // limited view: fields trimmed
	BlockedDegraded BlockKind = "degraded" // status 200 with places near the exit, not near the viewport
)

func (e *BlockedError) Error() string {
	return fmt.Sprintf("google refused (%s) at %s", e.Kind, e.URL)
}

// DecodeError says that a payload could not be read at all. The bytes are kept for inspection.
type DecodeError struct {
	URL     string
	Payload []byte
	Err     error
}

// Error leaves out the URL's query: it is long, and says nothing to people.
func (e *DecodeError) Error() string {
	page, _, _ := strings.Cut(e.URL, "?")
	return fmt.Sprintf("decode answer of %s: %v", page, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }
