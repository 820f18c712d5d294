package observe

import (
	"net/mail"
	"net/netip"
	"regexp"
	"strings"
)

// Look is what the values of a field look like to somebody who would misuse
// them.
type Look string

// The looks.
const (
	Place    Look = "a place"
	Network  Look = "a Wi-Fi network"
	Hardware Look = "a hardware address"
	Address  Look = "a network address"
	Mail     Look = "a mail address"
	Phone    Look = "a telephone number"
	Person   Look = "a person's name"
	Secret   Look = "a secret"
	Unit     Look = "a serial number"
	Health   Look = "something about health"
)

// byName finds looks in the words of a field's name.
var byName = []struct {
	re   *regexp.Regexp
	look Look
}{
	{regexp.MustCompile(`^(lat|lon|lng|latitude|longitude|gps|geo|geohash|location|coords?|altitude)$`), Place},
	{regexp.MustCompile(`^(ssid|bssid|essid|wlan|ap)$`), Network},
	{regexp.MustCompile(`^(mac|macaddr|macaddress|bdaddr)$`), Hardware},
	{regexp.MustCompile(`^(ip|ipaddr|ipv4|ipv6|gateway)$`), Address},
	{regexp.MustCompile(`^(mail|email)$`), Mail},
	{regexp.MustCompile(`^(phone|msisdn|tel|mobile)$`), Phone},
	{regexp.MustCompile(`^(owner|user|username|firstname|lastname|fullname|person|child|kid)$`), Person},
	{regexp.MustCompile(`^(password|passwd|pwd|secret|token|apikey|key|psk|credential)$`), Secret},
	{regexp.MustCompile(`^(serial|imei|imsi|iccid|meid|sn)$`), Unit},
	{regexp.MustCompile(`^(heart|pulse|bpm|hr|spo2|glucose|steps|sleep|weight|ecg|hrv|respiration)$`), Health},
}

// looksOfName are what a name says, whatever the values.
func looksOfName(name string) Look {
	for _, w := range wordsOf(name) {
		for _, b := range byName {
			if b.re.MatchString(w) {
				return b.look
			}
		}
	}
	return ""
}

// wordsOf takes a name apart where its author put words together: wifi_ssid,
// wifiSsid, wifi.ssid.
func wordsOf(name string) (out []string) {
	word := ""
	end := func() {
		if word != "" {
			out = append(out, strings.ToLower(word))
		}
		word = ""
	}
	var before byte
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_' || c == '-' || c == '.' || c == '/' || c == ' ':
			end()
		case c >= 'A' && c <= 'Z' && before >= 'a' && before <= 'z':
			end()
			word += string(c)
		default:
			word += string(c)
		}
		before = c
	}
	end()
	return out
}

var (
	hardwareForm = regexp.MustCompile(`^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$`)
	phoneForm    = regexp.MustCompile(`^\+[0-9][0-9 ()-]{6,18}[0-9]$`)
	placeForm    = regexp.MustCompile(`^-?[0-9]{1,2}\.[0-9]{3,}, ?-?[0-9]{1,3}\.[0-9]{3,}$`)
)

// looksOfText is what a text looks like; "" for most.
func looksOfText(s string) Look {
	switch {
	case len(s) > 320 || len(s) < 6:
		return ""
	case hardwareForm.MatchString(s):
		return Hardware
	case phoneForm.MatchString(s):
		return Phone
	case placeForm.MatchString(s):
		return Place
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return Address
	}
	if strings.Contains(s, "@") {
		if a, err := mail.ParseAddress(s); err == nil && a.Address == s {
			return Mail
		}
	}
	return ""
}
