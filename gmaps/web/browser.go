package web

import (
	"net/http"
	"strconv"
	"strings"
)

// browser holds the header values that stay the same.
type browser struct {
	userAgent, brands, referer []string
}

func newBrowser(version int, baseURL string) browser {
	v := strconv.Itoa(version)
	return browser{
		userAgent: []string{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" + v + ".0.0.0 Safari/537.36"},
		brands:    []string{`"Chromium";v="` + v + `", "Google Chrome";v="` + v + `", "Not_A Brand";v="99"`},
		referer:   []string{baseURL + "/"},
	}
}

var (
	anyType    = []string{"*/*"}
	pageType   = []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
	gzipOnly   = []string{"gzip"}
	notMobile  = []string{"?0"}
	platform   = []string{`"Windows"`}
	sameOrigin = []string{"same-origin"}
	cors       = []string{"cors"}
	empty      = []string{"empty"}
	none       = []string{"none"}
	navigate   = []string{"navigate"}
	document   = []string{"document"}
	one        = []string{"1"}
)

// dress sets the headers of Chrome on Windows: of a page that is opened, or of a request that a page makes.
func (b browser) dress(h http.Header, lang string, page bool) {
	h["User-Agent"] = b.userAgent
	h["Sec-Ch-Ua"] = b.brands
	h["Sec-Ch-Ua-Mobile"] = notMobile
	h["Sec-Ch-Ua-Platform"] = platform
	h["Accept-Encoding"] = gzipOnly
	h["Accept-Language"] = []string{acceptLanguage(lang)}
	if page {
		h["Accept"] = pageType
		h["Sec-Fetch-Site"], h["Sec-Fetch-Mode"], h["Sec-Fetch-Dest"] = none, navigate, document
		h["Upgrade-Insecure-Requests"] = one
		return
	}
	h["Accept"] = anyType
	h["Referer"] = b.referer
	h["Sec-Fetch-Site"], h["Sec-Fetch-Mode"], h["Sec-Fetch-Dest"] = sameOrigin, cors, empty
}

func acceptLanguage(lang string) string {
	switch {
	case lang == "" || lang == "en":
		return "en-US,en;q=0.9"
	case strings.HasPrefix(lang, "en"):
		return lang + ",en;q=0.9"
	default:
		return lang + ",en;q=0.8"
	}
}
