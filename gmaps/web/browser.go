package web

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// browser holds the headers of Chrome on Windows: those of a page that is opened, and those of a request that a page makes.
type browser struct{ page, script http.Header }

func newBrowser(version int, baseURL string) browser {
	v := strconv.Itoa(version)
	both := http.Header{
		"User-Agent":         {"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" + v + ".0.0.0 Safari/537.36"},
		"Sec-Ch-Ua":          {`"Chromium";v="` + v + `", "Google Chrome";v="` + v + `", "Not_A Brand";v="99"`},
		"Sec-Ch-Ua-Mobile":   {"?0"},
		"Sec-Ch-Ua-Platform": {`"Windows"`},
		"Accept-Encoding":    {"gzip"}, // Chrome takes more, we read no more
	}
	b := browser{
		page: http.Header{
			"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
			"Sec-Fetch-Site":            {"none"},
			"Sec-Fetch-Mode":            {"navigate"},
			"Sec-Fetch-Dest":            {"document"},
			"Upgrade-Insecure-Requests": {"1"},
		},
		script: http.Header{
			"Accept":         {"*/*"},
			"Referer":        {baseURL + "/"},
			"Sec-Fetch-Site": {"same-origin"},
			"Sec-Fetch-Mode": {"cors"},
			"Sec-Fetch-Dest": {"empty"},
		},
	}
	maps.Copy(b.page, both)
	maps.Copy(b.script, both)
	return b
}

// dress sets the headers of a request for a page, or of a page's own; the values are shared between requests.
func (b browser) dress(h http.Header, lang string, page bool) {
	if page {
		maps.Copy(h, b.page)
	} else {
		maps.Copy(h, b.script)
	}
	h["Accept-Language"] = []string{acceptLanguage(lang)}
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
