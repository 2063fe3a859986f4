package simulator

import (
	"html"
	"net/http"
	"net/url"
	"strings"
)

// consentAction is where the consent form posts to. Clients know the page by the words "consent.google" in it.
const consentAction = "/consent.google.com/save"

func hasConsent(r *http.Request) bool {
	for _, name := range []string{"SOCS", "CONSENT"} {
		if c, err := r.Cookie(name); err == nil && c.Value != "" {
			return true
		}
	}
	return false
}

// hasSession says whether the client shows the NID cookie, of whatever value: Google does not bind it to an address.
func hasSession(r *http.Request) bool {
	c, err := r.Cookie("NID")
	return err == nil && c.Value != "" && faultOf(r) != FaultNoSession
}

// serveSession is GET /maps: it sets the NID cookie.
func (s *Simulator) serveSession(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("cid") {
		s.servePage(w, r)
		return
	}
	if !hasSession(r) {
		token := newRandom(s.config.Seed, s.ordinal.Load())
		http.SetCookie(w, &http.Cookie{Name: "NID", Value: "525=" + token.token(160), Path: "/", HttpOnly: true, MaxAge: 180 * 24 * 3600})
	}
	s.servePage(w, r)
}

// servePage is any HTML page of Maps: a plain client finds no place data in it.
func (s *Simulator) servePage(w http.ResponseWriter, r *http.Request) {
	s.send(w, r, "text/html; charset=UTF-8", []byte(`<!doctype html><html itemscope itemtype="http://schema.org/Place"><head><title>Google Maps</title>
<script>window.APP_OPTIONS=[];window.APP_INITIALIZATION_STATE=[[[25000000,0,0],[0,0,0],[1024,768],13.1],[],[],null];</script></head><body></body></html>`))
}

func (s *Simulator) serveConsent(w http.ResponseWriter, r *http.Request) {
	back := html.EscapeString(localPath(r.URL.Query().Get("continue")))
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	page := `<!doctype html><html><head><title>Before you continue to Google Maps</title></head><body><h1>Before you continue</h1>`
	for _, button := range []string{"Reject all", "Accept all"} {
		page += `<form action="` + consentAction + `" method="POST"><input type="hidden" name="continue" value="` + back + `">` +
			`<input type="hidden" name="set_eom" value="true"><button aria-label="` + button + `">` + button + `</button></form>`
	}
	_, _ = w.Write([]byte(page + "</body></html>"))
}

func (s *Simulator) acceptConsent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	http.SetCookie(w, &http.Cookie{Name: "SOCS", Value: "CAESHAgBEhJnd3NfMjAyNjAxMDEtMF9SQzEaAmVuIAEaBgiA", Path: "/", MaxAge: 390 * 24 * 3600})
	http.Redirect(w, r, localPath(r.PostFormValue("continue")), http.StatusSeeOther)
}

// localPath keeps a redirect on this host.
func localPath(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") || strings.Contains(target, `\`) {
		return "/maps"
	}
	return target
}
