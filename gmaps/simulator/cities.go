package simulator

import "strings"

// city is where synthetic places stand, with what addresses and phones look like there.
type city struct {
	name        string // as written there
	english     string
	country     string // as the address line ends, "" where it is left out
	code        string // ISO 3166-1 alpha-2
	lat, lng    float64
	timezone    string
	lang        string // a key of languages
	state       string
	postal      string // '#' is a digit
	address     string // lines separated by '|'; {s} street {n} number {p} postal code {c} city {b} borough
	dial        string // international prefix without +
	phone       string // national form, '#' is a digit
	domain      string // top level of websites
	currency    string
	streets     []string
	boroughs    []string
	englishWord string // lower case, what a keyword is compared with
}

// cities are real; positions are those of their centres, rounded to 0.001 degrees.
func cities() []city {
	const line = "{s} {n}|{p} {c}"
	list := []city{
		{name: "New York", english: "New York", country: "United States", code: "US", lat: 40.731, lng: -73.994, timezone: "America/New_York", lang: "en", state: "New York", postal: "100##", address: "{n} {s}|{c}, NY {p}", dial: "1", phone: "(212) ###-####", domain: "com", currency: "$"},
		{name: "San Francisco", english: "San Francisco", country: "United States", code: "US", lat: 37.774, lng: -122.431, timezone: "America/Los_Angeles", lang: "en", state: "California", postal: "941##", address: "{n} {s}|{c}, CA {p}", dial: "1", phone: "(415) ###-####", domain: "com", currency: "$"},
		{name: "London", english: "London", country: "United Kingdom", code: "GB", lat: 51.513, lng: -0.127, timezone: "Europe/London", lang: "en", postal: "W1# #AB", address: "{n} {s}|{c} {p}", dial: "44", phone: "020 7### ####", domain: "co.uk", currency: "£"},
		{name: "Sydney", english: "Sydney", country: "Australia", code: "AU", lat: -33.872, lng: 151.207, timezone: "Australia/Sydney", lang: "en", state: "New South Wales", postal: "20##", address: "{n} {s}|{c} NSW {p}", dial: "61", phone: "(02) 9### ####", domain: "com.au", currency: "$"},
		{name: "Suva", english: "Suva", country: "Fiji", code: "FJ", lat: -18.141, lng: 178.442, timezone: "Pacific/Fiji", lang: "en", postal: "", address: "{n} {s}|{c}", dial: "679", phone: "33# ####", domain: "com.fj", currency: "$"},
		{name: "Berlin", english: "Berlin", country: "Germany", code: "DE", lat: 52.517, lng: 13.389, timezone: "Europe/Berlin", lang: "de", postal: "10###", address: line, dial: "49", phone: "030 #######", domain: "de", currency: "€"},
		{name: "München", english: "Munich", country: "Germany", code: "DE", lat: 48.137, lng: 11.575, timezone: "Europe/Berlin", lang: "de", postal: "80###", address: line, dial: "49", phone: "089 #######", domain: "de", currency: "€"},
		{name: "Wien", english: "Vienna", country: "Austria", code: "AT", lat: 48.208, lng: 16.373, timezone: "Europe/Vienna", lang: "de", postal: "10#0", address: line, dial: "43", phone: "01 #######", domain: "at", currency: "€"},
		{name: "Paris", english: "Paris", country: "France", code: "FR", lat: 48.857, lng: 2.352, timezone: "Europe/Paris", lang: "fr", postal: "750##", address: "{n} {s}|{p} {c}", dial: "33", phone: "01 4# ## ## ##", domain: "fr", currency: "€"},
		{name: "Montréal", english: "Montreal", country: "Canada", code: "CA", lat: 45.503, lng: -73.569, timezone: "America/Toronto", lang: "fr", state: "Québec", postal: "H2X #Y#", address: "{n} {s}|{c}, QC {p}", dial: "1", phone: "(514) ###-####", domain: "ca", currency: "$"},
		{name: "Madrid", english: "Madrid", country: "Spain", code: "ES", lat: 40.417, lng: -3.704, timezone: "Europe/Madrid", lang: "es", postal: "280##", address: "{s}, {n}|{b}|{p} {c}", dial: "34", phone: "91# ## ## ##", domain: "es", currency: "€", boroughs: []string{"Centro", "Chamberí", "Salamanca", "Retiro"}},
		{name: "Ciudad de México", english: "Mexico City", country: "Mexico", code: "MX", lat: 19.433, lng: -99.133, timezone: "America/Mexico_City", lang: "es", state: "CDMX", postal: "060##", address: "{s} {n}|{b}|{p} {c}, CDMX", dial: "52", phone: "55 #### ####", domain: "mx", currency: "$", boroughs: []string{"Centro", "Roma Nte.", "Juárez", "Condesa"}},
		{name: "Αθήνα", english: "Athens", country: "Greece", code: "GR", lat: 37.976, lng: 23.735, timezone: "Europe/Athens", lang: "el", postal: "105 ##", address: "{s} {n}|{c} {p}", dial: "30", phone: "21 0### ####", domain: "gr", currency: "€"},
		{name: "Λεμεσός", english: "Limassol", code: "CY", lat: 34.676, lng: 33.044, timezone: "Asia/Nicosia", lang: "el", postal: "30##", address: "{s} {n}|{c} {p}", dial: "357", phone: "25 ######", domain: "com.cy", currency: "€"},
		{name: "Москва", english: "Moscow", country: "Russia", code: "RU", lat: 55.752, lng: 37.618, timezone: "Europe/Moscow", lang: "ru", postal: "10####", address: "{s}, {n}|{c}|{p}", dial: "7", phone: "8 (495) ###-##-##", domain: "ru", currency: "₽"},
		{name: "Алматы", english: "Almaty", country: "Kazakhstan", code: "KZ", lat: 43.238, lng: 76.946, timezone: "Asia/Almaty", lang: "ru", postal: "0500##", address: "{s} {n}|{c} {p}", dial: "7", phone: "8 (727) ### ## ##", domain: "kz", currency: "₸"},
		{name: "القاهرة", english: "Cairo", country: "Egypt", code: "EG", lat: 30.044, lng: 31.236, timezone: "Africa/Cairo", lang: "ar", state: "محافظة القاهرة", postal: "115##", address: "{n} {s}|{b}|{c} {p}", dial: "20", phone: "02 2#######", domain: "com.eg", currency: "E£", boroughs: []string{"الزمالك", "المعادي", "وسط البلد"}},
		{name: "دبي", english: "Dubai", country: "United Arab Emirates", code: "AE", lat: 25.205, lng: 55.271, timezone: "Asia/Dubai", lang: "ar", postal: "", address: "{s} {n}|{b}|{c}", dial: "971", phone: "04 ### ####", domain: "ae", currency: "AED", boroughs: []string{"ديرة", "الكرامة", "جميرا"}},
		{name: "תל אביב-יפו", english: "Tel Aviv", country: "Israel", code: "IL", lat: 32.075, lng: 34.775, timezone: "Asia/Jerusalem", lang: "he", postal: "6#####1", address: "{s} {n}|{c}, {p}", dial: "972", phone: "03-###-####", domain: "co.il", currency: "₪"},
		{name: "नई दिल्ली", english: "New Delhi", country: "India", code: "IN", lat: 28.614, lng: 77.209, timezone: "Asia/Kolkata", lang: "hi", state: "Delhi", postal: "1100##", address: "{n}, {s}|{b}|{c}, Delhi {p}", dial: "91", phone: "011 #### ####", domain: "in", currency: "₹", boroughs: []string{"कनॉट प्लेस", "करोल बाग", "साकेत"}},
		{name: "मुंबई", english: "Mumbai", country: "India", code: "IN", lat: 18.94, lng: 72.835, timezone: "Asia/Kolkata", lang: "hi", state: "Maharashtra", postal: "4000##", address: "{n}, {s}|{b}|{c}, Maharashtra {p}", dial: "91", phone: "022 #### ####", domain: "in", currency: "₹", boroughs: []string{"बांद्रा", "कोलाबा", "दादर"}},
		{name: "กรุงเทพมหานคร", english: "Bangkok", country: "Thailand", code: "TH", lat: 13.756, lng: 100.502, timezone: "Asia/Bangkok", lang: "th", postal: "10###", address: "{n} {s}|{b}|{c} {p}", dial: "66", phone: "02 ### ####", domain: "co.th", currency: "฿", boroughs: []string{"เขตปทุมวัน", "เขตบางรัก", "เขตวัฒนา"}},
		{name: "上海市", english: "Shanghai", country: "China", code: "CN", lat: 31.23, lng: 121.474, timezone: "Asia/Shanghai", lang: "zh", state: "上海市", postal: "2000##", address: "{b}{s}{n}号|{p}", dial: "86", phone: "021 #### ####", domain: "cn", currency: "¥", boroughs: []string{"黄浦区", "静安区", "徐汇区"}},
		{name: "台北市", english: "Taipei", country: "Taiwan", code: "TW", lat: 25.048, lng: 121.532, timezone: "Asia/Taipei", lang: "zh", postal: "1##", address: "{p}, {c}{b}{s}{n}號", dial: "886", phone: "02 2### ####", domain: "tw", currency: "$", boroughs: []string{"大安區", "信義區", "中山區"}},
		{name: "東京都", english: "Tokyo", country: "Japan", code: "JP", lat: 35.681, lng: 139.767, timezone: "Asia/Tokyo", lang: "ja", state: "東京都", postal: "10#-00##", address: "〒{p} {c}{b}{s}{n}", dial: "81", phone: "03-####-####", domain: "co.jp", currency: "¥", boroughs: []string{"千代田区", "渋谷区", "新宿区"}},
		{name: "大阪市", english: "Osaka", country: "Japan", code: "JP", lat: 34.694, lng: 135.502, timezone: "Asia/Tokyo", lang: "ja", state: "大阪府", postal: "53#-00##", address: "〒{p} 大阪府{c}{b}{s}{n}", dial: "81", phone: "06-####-####", domain: "co.jp", currency: "¥", boroughs: []string{"北区", "中央区", "西区"}},
		{name: "서울특별시", english: "Seoul", country: "South Korea", code: "KR", lat: 37.566, lng: 126.978, timezone: "Asia/Seoul", lang: "ko", postal: "04###", address: "{c} {b} {s} {n}|{p}", dial: "82", phone: "02-####-####", domain: "co.kr", currency: "₩", boroughs: []string{"종로구", "강남구", "마포구"}},
		{name: "Auckland", english: "Auckland", country: "New Zealand", code: "NZ", lat: -36.848, lng: 174.763, timezone: "Pacific/Auckland", lang: "en", postal: "101#", address: "{n} {s}|{c} {p}", dial: "64", phone: "09 ### ####", domain: "co.nz", currency: "$"},
		{name: "Tromsø", english: "Tromso", country: "Norway", code: "NO", lat: 69.649, lng: 18.956, timezone: "Europe/Oslo", lang: "de", postal: "90##", address: line, dial: "47", phone: "77 ## ## ##", domain: "no", currency: "kr", streets: []string{"Storgata", "Sjøgata", "Grønnegata", "Strandgata"}},
		{name: "Buenos Aires", english: "Buenos Aires", country: "Argentina", code: "AR", lat: -34.604, lng: -58.382, timezone: "America/Argentina/Buenos_Aires", lang: "es", postal: "C10##AAB", address: "{s} {n}|{p} {c}", dial: "54", phone: "011 4###-####", domain: "com.ar", currency: "$"},
	}
	tongues := languages()
	for i := range list {
		if list[i].streets == nil {
			list[i].streets = tongues[list[i].lang].streets
		}
		list[i].englishWord = strings.ToLower(list[i].english)
	}
	return list
}

// category is a kind of place as Google names it in English.
type category struct {
	name, id string
	food     bool
	mobile   bool // serves its customers at their homes: may show no position
}

func categories() []category {
	return []category{
		{name: "Restaurant", id: "restaurant", food: true},
		{name: "Cafe", id: "cafe", food: true},
		{name: "Bakery", id: "bakery", food: true},
		{name: "Bar", id: "bar", food: true},
		{name: "Hotel", id: "hotel"},
		{name: "Pharmacy", id: "pharmacy"},
		{name: "Dentist", id: "dentist"},
		{name: "Supermarket", id: "supermarket"},
		{name: "Book store", id: "book_store"},
		{name: "Gym", id: "gym"},
		{name: "Hair salon", id: "hair_salon"},
		{name: "Plumber", id: "plumber", mobile: true},
	}
}

// language is the vocabulary of one tongue.
type language struct {
	names   []string // of people and owners
	kinds   []string // one for each category, as it stands in a title
	title   string   // {k} kind, {n} name
	streets []string
	praise  []string // sentences of reviews
	thanks  string   // an owner's reply
}

func languages() map[string]language {
	words := func(s string) []string { return strings.Split(s, "|") }
	return map[string]language{
		"en": {title: "{n}'s {k}", names: words("Miller|O'Brien|Harper|Quinn & Sons|Blue Door|Baker Street|Old Mill|Lucky 7"),
			kinds: words("Kitchen|Coffee|Bakehouse|Tap Room|Hotel|Pharmacy|Dental|Market|Books|Fitness|Hair|Plumbing"), streets: words("Main Street|Park Ave|Church Road|Mill Lane|Victoria Street|Queen St"),
			praise: words("Great place & friendly staff.|Will come again!|A bit slow, but \"worth it\".|Don't miss the terrace.|Too loud for me <3 otherwise.|Fair prices."), thanks: "Thank you for your kind words!"},
		"de": {title: "{k} {n}", names: words("Müller|Schäfer|Zum Löwen|Großmann|Am Markt|Weiß|Jäger & Söhne|König"),
			kinds: words("Gasthaus|Café|Bäckerei|Kneipe|Hotel|Apotheke|Zahnarztpraxis|Supermarkt|Buchhandlung|Fitnessstudio|Friseur|Sanitär"), streets: words("Hauptstraße|Bahnhofstraße|Goethestraße|Schloßallee|Lindenweg|Am Markt"),
			praise: words("Sehr freundliche Bedienung.|Gerne wieder!|Etwas teuer, aber schön.|Große Portionen.|Leider zu laut.|Fünf Sterne für die Küche."), thanks: "Vielen Dank für Ihren Besuch!"},
		"fr": {title: "{k} {n}", names: words("Dupont|L'Étoile|Chez Zoé|Le Petit Chêne|François|La Forêt|Noël|Au Bœuf d'Or"),
			kinds: words("Restaurant|Café|Boulangerie|Bar|Hôtel|Pharmacie|Cabinet dentaire|Supermarché|Librairie|Salle de sport|Coiffure|Plomberie"), streets: words("Rue de Rivoli|Rue Saint-Honoré|Avenue de l'Opéra|Rue des Écoles|Boulevard Voltaire|Place d'Armes"),
			praise: words("Très bon accueil.|À refaire sans hésiter !|Un peu cher.|Cadre agréable.|Déçu par l'attente.|Équipe adorable."), thanks: "Merci beaucoup, à bientôt !"},
		"es": {title: "{k} {n}", names: words("García|El Rincón|La Niña|Muñoz|Doña Inés|Los Ángeles|Peña|San José"),
			kinds: words("Restaurante|Cafetería|Panadería|Bar|Hotel|Farmacia|Clínica dental|Supermercado|Librería|Gimnasio|Peluquería|Fontanería"), streets: words("Calle Mayor|Calle de Alcalá|Avenida de la Paz|Paseo del Prado|Calle del Pez|Plaza de España"),
			praise: words("Muy buena atención.|¡Volveremos!|Precio razonable.|El sitio es pequeño pero acogedor.|Tardaron mucho.|Riquísimo todo."), thanks: "¡Muchas gracias por su visita!"},
		"el": {title: "{k} {n}", names: words("Παπαδόπουλος|Η Γωνιά|Το Λιμάνι|Αφροδίτη|Ωραία Ελένη|Ο Γιώργος|Θάλασσα|Ψαράς"),
			kinds: words("Ταβέρνα|Καφέ|Φούρνος|Μπαρ|Ξενοδοχείο|Φαρμακείο|Οδοντιατρείο|Σούπερ μάρκετ|Βιβλιοπωλείο|Γυμναστήριο|Κομμωτήριο|Υδραυλικός"), streets: words("Ερμού|Σταδίου|Πανεπιστημίου|Αγίου Ανδρέα|Λεωφ. Συγγρού|Αιόλου"),
			praise: words("Πολύ καλό φαγητό.|Θα ξαναπάμε!|Λίγο ακριβό.|Ευγενικό προσωπικό.|Είχε πολλή φασαρία.|Όμορφη θέα."), thanks: "Σας ευχαριστούμε πολύ!"},
		"ru": {title: "{k} «{n}»", names: words("Берёзка|Уют|Иванов и Ко|Ёлка|Старый город|Щедрый стол|Звезда|Юность"),
			kinds: words("Ресторан|Кафе|Пекарня|Бар|Гостиница|Аптека|Стоматология|Супермаркет|Книжный|Фитнес-клуб|Парикмахерская|Сантехник"), streets: words("Тверская улица|улица Арбат|проспект Мира|улица Абая|Ленинский проспект|Садовая улица"),
			praise: words("Очень вкусно.|Придём ещё!|Дороговато.|Вежливый персонал.|Долго ждали.|Уютная атмосфера."), thanks: "Спасибо за отзыв!"},
		"ar": {title: "{k} {n}", names: words("النيل|الياسمين|أبو علي|الفردوس|نور|السلام|الأندلس|زهرة"),
			kinds: words("مطعم|مقهى|مخبز|مقصف|فندق|صيدلية|عيادة أسنان|سوبرماركت|مكتبة|نادي رياضي|صالون|سباك"), streets: words("شارع التحرير|شارع الهرم|شارع الجمهورية|طريق الشيخ زايد|شارع المعز|شارع النصر"),
			praise: words("طعام لذيذ جداً.|سأعود مرة أخرى!|الأسعار مرتفعة.|خدمة ممتازة.|المكان مزدحم.|أنصح به."), thanks: "شكراً لزيارتكم!"},
		"he": {title: "{k} {n}", names: words("הגליל|שלום|אבו חסן|הפינה|כרמל|ים|הזית|נועה"),
			kinds: words("מסעדת|קפה|מאפיית|בר|מלון|בית מרקחת|מרפאת שיניים|סופר|ספרי|חדר כושר|מספרת|אינסטלציה"), streets: words("דיזנגוף|רוטשילד|אלנבי|בן יהודה|הירקון|קינג ג'ורג'"),
			praise: words("אוכל מצוין.|נחזור שוב!|קצת יקר.|שירות אדיב.|חיכינו הרבה זמן.|מקום נעים."), thanks: "תודה רבה על הביקור!"},
		"hi": {title: "{n} {k}", names: words("शर्मा|गुप्ता|लक्ष्मी|श्री कृष्ण|अन्नपूर्णा|राज|गंगा|सिंह एंड संस"),
			kinds: words("भोजनालय|कैफ़े|बेकरी|बार|होटल|मेडिकल स्टोर|डेंटल क्लिनिक|सुपरमार्केट|पुस्तक भंडार|जिम|सैलून|प्लंबर"), streets: words("महात्मा गांधी मार्ग|जनपथ|नेहरू रोड|स्टेशन रोड|बाज़ार मार्ग|लिंकिंग रोड"),
			praise: words("खाना बहुत अच्छा है।|फिर आएंगे!|थोड़ा महंगा।|स्टाफ विनम्र है।|बहुत भीड़ थी।|साफ़ जगह।"), thanks: "आपका धन्यवाद!"},
		"th": {title: "{k}{n}", names: words("สมใจ|บ้านสวน|ริมน้ำ|เจ๊หมวย|ทองดี|สุขใจ|ดวงดาว|ลุงหนวด"),
			kinds: words("ร้านอาหาร|คาเฟ่|เบเกอรี่|บาร์|โรงแรม|ร้านขายยา|คลินิกทันตกรรม|ซูเปอร์มาร์เก็ต|ร้านหนังสือ|ฟิตเนส|ร้านทำผม|ช่างประปา"), streets: words("ถนนสุขุมวิท|ถนนสีลม|ถนนเยาวราช|ถนนพระราม 4|ถนนเจริญกรุง|ถนนข้าวสาร"),
			praise: words("อร่อยมาก|จะกลับมาอีก!|แพงไปหน่อย|พนักงานสุภาพ|รอนาน|บรรยากาศดี"), thanks: "ขอบคุณมากครับ!"},
		"zh": {title: "{n}{k}", names: words("老王|龙凤|福满楼|绿叶|新世界|阳光|小城故事|金桥"),
			kinds: words("餐厅|咖啡馆|面包房|酒吧|酒店|药房|牙科诊所|超市|书店|健身房|美发|水管维修"), streets: words("南京东路|淮海中路|中山路|和平路|人民大道|建国路"),
			praise: words("味道很好。|下次还会来!|有点贵。|服务热情。|等了很久。|环境不错。"), thanks: "感谢您的光临!"},
		"ja": {title: "{n}{k}", names: words("さくら|山田|喫茶ひかり|松の|富士|みなと|花鳥|ドラゴン"),
			kinds: words("食堂|カフェ|ベーカリー|バー|ホテル|薬局|歯科|スーパー|書店|ジム|美容室|水道工事"), streets: words("丸の内1丁目|銀座4丁目|道玄坂2丁目|梅田3丁目|心斎橋筋1丁目|西新宿1丁目"),
			praise: words("とても美味しかったです。|また来ます!|少し高いです。|店員さんが親切。|待ち時間が長い。|雰囲気が良い。"), thanks: "ご来店ありがとうございました。"},
		"ko": {title: "{n} {k}", names: words("한마음|서울|김가네|푸른|하늘|명동|달빛|우리"),
			kinds: words("식당|카페|베이커리|바|호텔|약국|치과|마트|서점|헬스장|미용실|배관"), streets: words("세종대로|강남대로|테헤란로|홍익로|을지로|종로"),
			praise: words("정말 맛있어요.|또 올게요!|조금 비싸요.|직원이 친절해요.|오래 기다렸어요.|분위기가 좋아요."), thanks: "방문해 주셔서 감사합니다!"},
	}
}
