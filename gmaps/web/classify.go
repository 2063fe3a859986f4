package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"

	"gmaps-scraper/gmaps"
)

// answer is one response, its body uncompressed.
type answer struct {
	status   int
	url      *url.URL // that was asked
	header   http.Header
	location *url.URL // where a redirect leads; nil if it names nothing
	body     []byte   // valid until free
	free     func()
}

// kind is what an answer is, when it is no refusal.
type kind int

const (
	kindJSON kind = iota
	kindPage      // an HTML page
	kindRedirect
	kindConsent // Google asks for consent first: a redirect to that page, or the page itself
)

// statusError is an answer that is neither a payload nor one of Google's refusals.
type statusError struct {
	status int
	url    string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("ask %s: status %d %s", e.url, e.status, http.StatusText(e.status))
}

var errPage = errors.New("an HTML page where JSON was expected")

// classify tells what a is. A refusal is a *gmaps.BlockedError, any other failure a *statusError; now is for dates in Retry-After.
func classify(a *answer, now time.Time) (kind, error) {
	blocked := func(k gmaps.BlockKind) error {
		return &gmaps.BlockedError{Kind: k, RetryAfter: retryAfter(a.header, now), URL: brief(a.url.String())}
	}
	switch {
	case a.status == http.StatusTooManyRequests:
		return 0, blocked(gmaps.BlockedRate)
	case a.status >= 300 && a.status < 400 && a.location != nil:
		switch {
		case isSorry(a.location):
			return 0, blocked(gmaps.BlockedCaptcha)
		case isConsent(a.location):
			return kindConsent, nil
		default:
			return kindRedirect, nil
		}
	}

	page := isPage(a)
	if page && isSorry(a.url) {
		return 0, blocked(gmaps.BlockedCaptcha)
	}
	if page {
		switch formOf(a.body) {
		case formCaptcha:
			return 0, blocked(gmaps.BlockedCaptcha)
		case formConsent:
			return kindConsent, nil
		case formNone:
		}
	}
	switch {
	case a.status == http.StatusForbidden:
		// Google shuts out whole networks of data centres with a bare 403 page.
		return 0, blocked(gmaps.BlockedCaptcha)
	case a.status != http.StatusOK:
		return 0, &statusError{status: a.status, url: brief(a.url.String())}
	case page:
		return kindPage, nil
	default:
		return kindJSON, nil
	}
}

// permanent says that asking again will bring the same: the request itself is at fault.
func permanent(err error) bool {
	if status, ok := errors.AsType[*statusError](err); ok {
		return status.status >= 400 && status.status < 500 && status.status != http.StatusRequestTimeout && status.status != http.StatusProxyAuthRequired
	}
	return errors.Is(err, errForeign)
}

func isSorry(u *url.URL) bool { return u.Path == "/sorry" || strings.HasPrefix(u.Path, "/sorry/") }

func isConsent(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if rest, ok := strings.CutPrefix(host, "consent."); ok {
		return gmaps.IsGoogleHost(rest)
	}
	// A simulator has one host: it serves the page of consent.google.com under a path.
	return strings.HasPrefix(u.Path, "/consent")
}

// isPage looks at the body, not only at the header: payloads come as text/html at times. JSON answers begin with )]}' or a bracket.
func isPage(a *answer) bool {
	body := bytes.TrimLeft(a.body[:min(len(a.body), 512)], " \t\r\n\ufeff")
	if len(body) > 0 {
		return body[0] == '<'
	}
	return a.status != http.StatusOK && strings.HasPrefix(a.header.Get("Content-Type"), "text/html")
}

// longestBlock bounds what is believed of Retry-After: one odd answer must not take an exit or a task out of use for good.
const longestBlock = time.Hour

// retryAfter reads seconds or a date, up to longestBlock; 0 if there is neither.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, longestBlock)
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), longestBlock)
	}
	return 0
}

type formKind int

const (
	formNone formKind = iota
	formConsent
	formCaptcha
)

// formOf finds the form by which a page is known. Scripts of ordinary pages name the same addresses, so only form elements count.
func formOf(body []byte) formKind {
	for _, f := range forms(body) {
		action := strings.ToLower(f.action)
		switch {
		case strings.Contains(strings.ToLower(f.id), "captcha"), strings.Contains(action, "captcha"), strings.Contains(action, "/sorry/"):
			return formCaptcha
		case strings.Contains(action, "consent.google"), strings.Contains(action, "consent/"), f.fields.Has("set_eom"):
			return formConsent
		}
	}
	return formNone
}

// form is one form of a page with its hidden fields.
type form struct {
	id, action string
	fields     url.Values
}

func forms(body []byte) []form {
	var found []form
	open := false
	for z := html.NewTokenizer(bytes.NewReader(body)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return found
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			isForm, isInput := string(name) == "form", string(name) == "input"
			if !isForm && (!isInput || !open) {
				continue
			}
			attrs := map[string]string{}
			for more {
				var key, value []byte
				key, value, more = z.TagAttr()
				attrs[string(key)] = string(value)
			}
			if isForm {
				open = true
				found = append(found, form{id: attrs["id"], action: attrs["action"], fields: url.Values{}})
				continue
			}
			if attrs["name"] != "" {
				found[len(found)-1].fields.Set(attrs["name"], attrs["value"])
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "form" {
				open = false
			}
		}
	}
}

// rejectForm is the form of a consent page that refuses all cookies: the one with set_eom=true, else the first, where Google puts it.
func rejectForm(body []byte) (form, bool) {
	var first *form
	for _, f := range forms(body) {
		if f.fields.Get("set_eom") == "true" {
			return f, true
		}
		if first == nil && f.action != "" {
			first = &f
		}
	}
	if first == nil {
		return form{}, false
	}
	return *first, true
}
