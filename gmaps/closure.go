package gmaps

import (
	"cmp"
	"strings"
)

// closureOf reads whether the place is out of business: from words where the opening state stands, else from the badge beside the title.
// Both are localised, so that only the languages listed below are known.
func closureOf(f fields, status string) Closure {
	badge := f.text("closed", 88, 0)
	kind := cmp.Or(closureWords(status), closureWords(f.text("status", 203, 1, 4, 0)), closureWords(badge))
	if kind != "" || !isClosedBadge(badge) {
		return kind
	}
	// The page's menu names the kind among much else (read).
	for label := range f.get("closed", 96, 5).texts() {
		if kind := closureWords(label); kind != "" {
			return kind
		}
	}
	return ClosedPermanently
}

// isClosedBadge compares exactly: the badge's slot also holds highlights ("Brunch") and, for hotels, a price.
// "CLOSED", "GESCHLOSSEN" and "ĐANG ĐÓNG CỬA" were seen by other scrapers; the rest are translations.
func isClosedBadge(badge string) bool {
	switch badge {
	case "CLOSED", "GESCHLOSSEN", "ĐANG ĐÓNG CỬA", "ĐÓNG CỬA", "FERMÉ", "CERRADO", "CHIUSO", "GESLOTEN", "FECHADO", "ENCERRADO", "ΚΛΕΙΣΤΌ", "ΚΛΕΙΣΤΟ",
		"ZAMKNIĘTE", "ЗАКРЫТО", "ЗАЧИНЕНО", "KAPALI", "ZÁRVA", "ZAVŘENO", "ZATVORENÉ", "ÎNCHIS", "STÄNGT", "LUKKET", "STENGT", "SULJETTU", "TUTUP":
		return true
	default:
		return false
	}
}

// closureWords knows what Google writes for a place out of business. It compares whole words only: a status may speak of a day.
func closureWords(text string) Closure {
	text, _, _ = strings.Cut(text, " ⋅ ")
	text, _, _ = strings.Cut(text, " · ")
	switch strings.ToLower(text) {
	case "closed_permanently", "permanently_closed", "permanently closed", "dauerhaft geschlossen", "définitivement fermé", "fermé définitivement",
		"cerrado permanentemente", "cerrado definitivamente", "chiuso definitivamente", "permanent gesloten", "permanentemente fechado",
		"fechado permanentemente", "encerrado permanentemente", "έκλεισε οριστικά", "zamknięte na stałe", "закрыто навсегда", "зачинено назавжди",
		"kalıcı olarak kapalı", "kalıcı olarak kapandı", "végleg bezárt", "véglegesen bezárt", "trvale zavřeno", "trvale uzavřeno", "natrvalo zatvorené",
		"închis definitiv", "permanent stängt", "stängt permanent", "permanent lukket", "lukket permanent", "permanent stengt", "stengt permanent",
		"pysyvästi suljettu", "閉業", "永久停业", "已永久停业", "永久停業", "永久歇業", "폐업", "폐업함", "đóng cửa vĩnh viễn", "tutup permanen", "ปิดถาวร",
		"مغلق نهائيًا", "مغلق نهائيا", "مغلق بشكل دائم", "סגור לצמיתות", "נסגר לצמיתות", "हमेशा के लिए बंद":
		return ClosedPermanently
	case "closed_temporarily", "temporarily_closed", "temporarily closed", "vorübergehend geschlossen", "temporairement fermé", "fermé temporairement",
		"cerrado temporalmente", "chiuso temporaneamente", "temporaneamente chiuso", "tijdelijk gesloten", "temporariamente fechado",
		"fechado temporariamente", "encerrado temporariamente", "προσωρινά κλειστό", "tymczasowo zamknięte", "временно закрыто", "тимчасово зачинено",
		"geçici olarak kapalı", "ideiglenesen zárva", "dočasně zavřeno", "dočasně uzavřeno", "dočasne zatvorené", "închis temporar", "tillfälligt stängt",
		"midlertidigt lukket", "midlertidig stengt", "tilapäisesti suljettu", "臨時休業", "临时停业", "暂停营业", "暫停營業", "暫時關閉", "임시 휴업", "임시 휴무",
		"tạm thời đóng cửa", "đóng cửa tạm thời", "tutup sementara", "ปิดชั่วคราว", "مغلق مؤقتًا", "مغلق مؤقتا", "סגור זמנית", "अस्थायी रूप से बंद":
		return ClosedTemporarily
	default:
		return ""
	}
}
