package declaration

import (
	"strings"
	"sync"
)

// knownUnit reports whether u is a unit of the SenML registry (RFC 8428 §12.1,
// RFC 8798) or a UCUM expression over the atoms listed here.
func knownUnit(u string) bool {
	t := units()
	if _, ok := t.senml[u]; ok {
		return true
	}
	p := ucum{rest: u, atoms: t.atoms}
	return p.term(0) && p.rest == ""
}

// fixUnit says what to write instead of an unknown unit.
func fixUnit(u string) string {
	if s, ok := units().slips[strings.ToLower(u)]; ok {
		return "write " + s
	}
	return "take a SenML or UCUM unit such as Cel, %, %RH, W, kWh, Pa, m/s, s or 1; what is counted goes in braces: {step}"
}

type unitTables struct {
	senml map[string]struct{}
	atoms map[string]bool // true: takes metric prefixes
	slips map[string]string
}

var units = sync.OnceValue(func() unitTables {
	t := unitTables{senml: map[string]struct{}{}, atoms: map[string]bool{}, slips: map[string]string{}}
	for u := range strings.FieldsSeq(`
		m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2
		m3/s l/s W/m2 cd/m2 bit bit/s lat lon pH dB dBW Bspl count / % %RH %EL EL 1/s 1/min beat/min beats
		S/m B VA VAs var vars J/m kg/m3 deg NTU
		ms min h MHz kW kVA kvar Ah Wh kWh varh kvarh kVAh Wh/km KiB GB Mbit/s B/s MB/s mV mA dBm ug/m3
		mm/h m/h ppm /100 /1000 hPa mm cm km km/h ppb ppt VAh mg/l ug/l g/l`) {
		t.senml[u] = struct{}{}
	}
	for u := range strings.FieldsSeq(`
		m s g rad K C cd mol sr Hz N Pa J W A V F Ohm S Wb Cel T H lm lx Bq Gy Sv l L t bar u eV kat cal
		B Np bit By Bd m[Hg] [iU] [IU] eq osm VA var Wh Ah ar pc st`) {
		t.atoms[u] = true
	}
	for u := range strings.FieldsSeq(`
		1 10* 10^ % [pi] [ppth] [ppm] [ppb] [pptr] min h d wk mo a gon deg ' '' AU [degF] [in_i] [ft_i] [yd_i]
		[mi_i] [nmi_i] [kn_i] [lb_av] [oz_av] [psi] [gal_us] [foz_us] [Btu] [HP] [pH] [drp] atm [g] B[SPL]
		B[W] B[V] B[mV] [cft_i] [in_i'Hg] [APL'U] [arb'U]`) {
		t.atoms[u] = false
	}
	for s := range strings.FieldsSeq(`
		celsius=Cel °c=Cel c=Cel degc=Cel fahrenheit=[degF] °f=[degF] percent=% pct=% rh=%RH humidity=%RH watt=W watts=W
		kwh=kWh volt=V volts=V amp=A amps=A ampere=A second=s seconds=s sec=s minutes=min minute=min hour=h hours=h
		hours=h meter=m metre=m meters=m metres=m metres/s=m/s kph=km/h kmh=km/h mph=[mi_i]/h bpm=beat/min rpm={rev}/min
		bytes=By byte=By count=count counts=1 none=1 steps={step} degrees=deg degree=deg °=deg pascal=Pa hpa=hPa mbar=mbar
		lux=lx ohm=Ohm ohms=Ohm ω=Ohm litre=l liter=l kelvin=K db=dB dbm=dBm inch=[in_i] feet=[ft_i] psi=[psi]
		millisecond=ms milliseconds=ms millis=ms days=d day=d mmhg=mm[Hg] µg/m3=ug/m3 μg/m3=ug/m3`) {
		slip, unit, _ := strings.Cut(s, "=")
		t.slips[slip] = unit
	}
	return t
})

// ucum is a parser of UCUM terms (case sensitive variant, §2.1).
type ucum struct {
	rest  string
	atoms map[string]bool
}

func (p *ucum) eat(s string) bool {
	var ok bool
	p.rest, ok = strings.CutPrefix(p.rest, s)
	return ok
}

func (p *ucum) term(depth int) bool {
	if depth > 3 {
		return false
	}
	p.eat("/")
	for {
		if !p.component(depth) {
			return false
		}
		if !p.eat(".") && !p.eat("/") {
			return true
		}
	}
}

func (p *ucum) component(depth int) bool {
	if p.eat("(") {
		return p.term(depth+1) && p.eat(")")
	}
	if strings.HasPrefix(p.rest, "{") {
		return p.annotation()
	}
	end := strings.IndexAny(p.rest, "./(){}")
	word := p.rest
	if end >= 0 {
		word = p.rest[:end]
	}
	if !p.unit(word) {
		return false
	}
	p.rest = p.rest[len(word):]
	if strings.HasPrefix(p.rest, "{") {
		return p.annotation()
	}
	return true
}

func (p *ucum) annotation() bool {
	end := strings.IndexByte(p.rest, '}')
	if end < 2 || strings.Contains(p.rest[1:end], "{") {
		return false
	}
	p.rest = p.rest[end+1:]
	return true
}

// unit reports whether w is an integer factor, or an atom with an optional
// metric prefix and an optional exponent.
func (p *ucum) unit(w string) bool {
	if w == "" {
		return false
	}
	if strings.Trim(w, "0123456789") == "" {
		return w[0] != '0'
	}
	if _, ok := p.atoms[w]; ok {
		return true
	}
	base := strings.TrimRight(w, "0123456789")
	if base != w {
		base = strings.TrimRight(base, "+-")
	}
	if _, ok := p.atoms[base]; ok {
		return true
	}
	for _, prefix := range [...]string{"Ki", "Mi", "Gi", "Ti", "da", "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "d", "c", "m", "u", "n", "p", "f", "a", "z", "y"} {
		if atom, ok := strings.CutPrefix(base, prefix); ok && p.atoms[atom] {
			return true
		}
	}
	return false
}
