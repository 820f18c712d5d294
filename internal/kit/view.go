package kit

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/wire"
)

// view is what the templates see.
type view struct {
	Platform            Platform
	PlatformName        string
	Product, Name, Hash string
	Version             int
	Environment         string
	Host, ESTHost       string
	MQTTPort, ESTPort   int
	Serial              string // for the README's commands
	NTP                 string // the declared source of time; may be empty
	Purpose             string // one to read with
	RootLines           []string
	ChainBytes          int
	TLS12               bool
	KeepAlive           int // seconds
	LifeDays            int
	Largest             int // payload bytes of the largest stream
	Topics              []string
	Streams             []stream
	Commands            []string
	Settings            []string
	Children            []string // products of which a unit may have children; none: it is no hub
	MaxChildren         int
	Enrol, Reenrol      string
	Core                string // the folder of the portable files, for the kit's host folder
}

type stream struct {
	Name, ID, Topic string
	Every           string
	EveryMS         int64
	Burst, MaxBytes int
	WholeMessage    bool // a bad field refuses the message
	Fields          []field
}

type field struct {
	Name, ID, Type, Unit string
	Number, Integer      bool
	Boolean, Text        bool
	Enum                 bool
	Min, Max             string // as literals
	MinLength, MaxLength int
	Decimals             int
	Precision            string
	Values               []value
	Choice               string // of the enumeration's type
	About                string
	InExample            bool
	ExampleC, ExamplePy  string
}

// value is one of an enumeration.
type value struct{ Text, ID string }

func newView(f Facts, platform Platform, roots []byte) *view {
	p := f.Policy
	v := &view{
		Platform: platform, PlatformName: platform.title(),
		Product: string(p.Product), Name: p.Name, Hash: p.Hash.String(), Version: p.Version, Environment: string(f.Door.Environment),
		Host: f.Door.Host, ESTHost: f.Door.ESTHost, MQTTPort: f.Door.MQTTPort, ESTPort: f.Door.ESTPort,
		Serial: string(f.Device), ChainBytes: f.Door.ChainBytes, TLS12: p.Network.TLS == "1.2",
		KeepAlive: keepAlive(p), LifeDays: int(p.Identity.Life / (24 * time.Hour)),
		Enrol: wire.ESTEnrol, Reenrol: wire.ESTReenrol, Core: platform.folders()["mbedtls"],
		Topics: []string{wire.RefusedTopic, wire.ConfigTopic, wire.UpdateTopic, wire.NoticeTopic},
	}
	if p.Hub != nil {
		for _, id := range p.Hub.Children {
			v.Children = append(v.Children, string(id))
		}
		v.MaxChildren = p.Hub.Max
	}
	if v.Serial == "" {
		v.Serial = "A1"
	}
	for i := range p.Fields {
		if v.Purpose == "" && len(p.Fields[i].Purposes) > 0 {
			v.Purpose = p.Fields[i].Purposes[0]
		}
	}
	for _, d := range p.Network.TalksTo {
		if d.Service == "ntp" && v.NTP == "" {
			v.NTP = d.Host
		}
	}
	if len(p.Commands) > 0 {
		v.Topics = append(v.Topics, wire.CommandFilter)
	}
	for i := range p.Commands {
		v.Commands = append(v.Commands, p.Commands[i].Name)
	}
	for i := range p.Settings {
		v.Settings = append(v.Settings, p.Settings[i].Name)
	}
	for l := range strings.Lines(string(roots)) {
		v.RootLines = append(v.RootLines, l)
	}
	streams, enums, choices := newNamer(), newNamer(), newNamer()
	for i := range p.Streams {
		s := &p.Streams[i]
		out := stream{
			Name: s.Name, ID: streams.name(s.Name), Topic: wire.TelemetryPrefix + s.Name, Every: span(s.Every), EveryMS: s.Every.Milliseconds(),
			Burst: s.Burst, MaxBytes: s.MaxBytes, WholeMessage: s.OnBad == declaration.BadMessage,
		}
		v.Largest = max(v.Largest, s.MaxBytes)
		members := newNamer("have")
		left := s.MaxBytes - stampBytes
		for _, k := range s.Fields {
			x := newField(&p.Fields[k], members, enums)
			if x.Enum {
				x.Choice = choices.name(s.Name + "_" + x.Name)
			}
			// An example that is larger than the stream takes would be refused.
			// The first one stays whatever it is: no example is an empty message.
			if size := len(x.Name) + len(x.ExamplePy) + 3; size <= left || k == s.Fields[0] {
				left -= size
				x.InExample = true
			}
			out.Fields = append(out.Fields, x)
		}
		v.Streams = append(v.Streams, out)
	}
	return v
}

// stampBytes is the room for braces, t, boot and seq.
const stampBytes = 2 + len(`"t":1234567890123,"boot":1234567890,"seq":12345,`)

func newField(f *declaration.Field, members, enums *namer) field {
	x := field{
		Name: f.Name, ID: members.name(f.Name), Type: f.Type.String(), Unit: f.Unit, About: f.About,
		MinLength: f.MinLength, MaxLength: f.MaxLength, Decimals: 6,
	}
	if f.Precision > 0 {
		x.Precision = strconv.FormatFloat(f.Precision, 'f', -1, 64)
		_, fraction, _ := strings.Cut(x.Precision, ".")
		x.Decimals = min(len(fraction), 9)
	}
	switch f.Type {
	case declaration.Number:
		x.Number = true
		x.Min, x.Max = double(f.Min), double(f.Max)
		x.ExampleC = double(middle(f))
		x.ExamplePy = x.ExampleC
	case declaration.Integer:
		x.Integer = true
		x.Min, x.Max = whole(f.Min), whole(f.Max)
		x.ExampleC = whole(math.Min(math.Max(math.Round(middle(f)), math.Ceil(f.Min)), math.Floor(f.Max)))
		x.ExamplePy = x.ExampleC
	case declaration.Boolean:
		x.Boolean = true
		x.ExampleC, x.ExamplePy = "true", "True"
	case declaration.Enum:
		x.Enum = true
		for _, text := range f.Values {
			x.Values = append(x.Values, value{Text: text, ID: strings.ToUpper(enums.name(f.Name + "_" + text))})
		}
		if len(x.Values) > 0 {
			x.ExampleC, x.ExamplePy = "HAWSER_IS_"+x.Values[0].ID, pyString(x.Values[0].Text)
		}
	case declaration.Timestamp:
		x.Text = true
		x.MinLength, x.MaxLength = 20, 40
		x.ExampleC, x.ExamplePy = `"2026-01-01T00:00:00Z"`, `"2026-01-01T00:00:00Z"`
	default:
		x.Text = true
		text := "example"
		if n := utf8.RuneCountInString(text); n > f.MaxLength {
			text = text[:max(f.MaxLength, 0)]
		} else if n < f.MinLength {
			text += strings.Repeat(".", f.MinLength-n)
		}
		x.ExampleC, x.ExamplePy = cString(text), pyString(text)
	}
	return x
}

// middle is a value that may be sent: the middle of the range, rounded as the
// declaration says.
func middle(f *declaration.Field) float64 {
	m := f.Min/2 + f.Max/2
	if f.Precision > 0 {
		if r, err := strconv.ParseFloat(strconv.FormatFloat(math.Round(m/f.Precision)*f.Precision, 'g', 12, 64), 64); err == nil && r >= f.Min && r <= f.Max {
			m = r
		}
	}
	return m
}

// span is a duration as a declaration has it: 60s, 5m, 1h.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// double is a number as a literal of C and of Python that is no integer.
func double(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// whole is an integer as a literal; a declared one lies within ±2^53.
func whole(x float64) string {
	return strconv.FormatInt(int64(math.Min(math.Max(x, -(1<<53)), 1<<53)), 10)
}

// keepAlive advises how long a connection may be silent, in seconds: longer
// than the usual pause between two readings, so that no ping is ever sent, and
// shorter than the five minutes after which home routers forget a connection.
func keepAlive(p *declaration.Policy) int {
	shortest := time.Hour
	for i := range p.Streams {
		shortest = min(shortest, p.Streams[i].Every)
	}
	return int(min(max(2*shortest, time.Minute), 4*time.Minute+30*time.Second) / time.Second)
}

// settings is hawser_settings.json.
func settings(v *view) any {
	type fieldOut struct {
		Name      string   `json:"name"`
		Type      string   `json:"type"`
		Unit      string   `json:"unit,omitempty"`
		Min       *float64 `json:"min,omitempty"`
		Max       *float64 `json:"max,omitempty"`
		MinLength int      `json:"min_length,omitempty"`
		MaxLength int      `json:"max_length,omitempty"`
		Values    []string `json:"values,omitempty"`
	}
	type streamOut struct {
		Name     string     `json:"name"`
		Topic    string     `json:"topic"`
		EveryMS  int64      `json:"every_ms"`
		Burst    int        `json:"burst"`
		MaxBytes int        `json:"max_bytes"`
		OnBad    string     `json:"on_bad"`
		Fields   []fieldOut `json:"fields"`
	}
	number := func(s string) *float64 {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil
		}
		return &x
	}
	streams := []streamOut{}
	for _, s := range v.Streams {
		o := streamOut{Name: s.Name, Topic: s.Topic, EveryMS: s.EveryMS, Burst: s.Burst, MaxBytes: s.MaxBytes, OnBad: "field", Fields: []fieldOut{}}
		if s.WholeMessage {
			o.OnBad = "message"
		}
		for i := range s.Fields {
			f := &s.Fields[i]
			x := fieldOut{Name: f.Name, Type: f.Type, Unit: f.Unit, Min: number(f.Min), Max: number(f.Max)}
			if f.Text {
				x.MinLength, x.MaxLength = f.MinLength, f.MaxLength
			}
			for _, w := range f.Values {
				x.Values = append(x.Values, w.Text)
			}
			o.Fields = append(o.Fields, x)
		}
		streams = append(streams, o)
	}
	tls := "1.3"
	if v.TLS12 {
		tls = "1.2"
	}
	return struct {
		Product     string      `json:"product"`
		Name        string      `json:"name"`
		Version     int         `json:"declaration_version"`
		Hash        string      `json:"declaration_hash"`
		Environment string      `json:"environment"`
		Host        string      `json:"host"`
		MQTTPort    int         `json:"mqtt_port"`
		ESTHost     string      `json:"enrolment_host"`
		ESTPort     int         `json:"enrolment_port"`
		Enrol       string      `json:"enrolment_path"`
		Renew       string      `json:"renewal_path"`
		Roots       string      `json:"roots"`
		TLS         string      `json:"oldest_tls"`
		KeepAlive   int         `json:"keep_alive_seconds"`
		LifeDays    int         `json:"certificate_days"`
		Subscribe   []string    `json:"subscribe"`
		Streams     []streamOut `json:"streams"`
	}{v.Product, v.Name, v.Version, v.Hash, v.Environment, v.Host, v.MQTTPort, v.ESTHost, v.ESTPort, v.Enrol, v.Reenrol, "hawser-roots.pem", tls, v.KeepAlive, v.LifeDays, v.Topics, streams}
}
