package kit

import (
	"bytes"
	"embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
)

//go:embed files
var files embed.FS

// Platform is what a kit is made for.
type Platform string

// The platforms.
const (
	Linux   Platform = "linux"   // C, Paho MQTT C, OpenSSL
	Python  Platform = "python"  // Paho MQTT for Python
	ESPIDF  Platform = "esp-idf" // ESP-MQTT, Mbed TLS
	Zephyr  Platform = "zephyr"  // Zephyr's MQTT library, Mbed TLS
	Arduino Platform = "arduino" // ESP32 core, arduino-mqtt, Mbed TLS
)

// Platforms lists all of them, in the order in which they are shown.
func Platforms() []Platform { return []Platform{Linux, Python, ESPIDF, Zephyr, Arduino} }

// folders says what a platform's kit is put together from: folders of files/,
// and where in the kit their files go.
func (p Platform) folders() map[string]string {
	switch p {
	case Python:
		return map[string]string{"readme": "", "python": ""}
	case Linux:
		return map[string]string{"readme": "", "linux": "", "common": ""}
	case ESPIDF:
		return map[string]string{"readme": "", "esp-idf": "", "common": "main", "mbedtls": "main", "host": "host"}
	case Zephyr:
		return map[string]string{"readme": "", "zephyr": "", "common": "src", "mbedtls": "src", "host": "host"}
	case Arduino:
		return map[string]string{"readme": "", "arduino": "", "common": "hawser_unit", "mbedtls": "hawser_unit", "host": "host"}
	}
	return nil
}

// title is what people call the platform.
func (p Platform) title() string {
	switch p {
	case Python:
		return "Python"
	case Linux:
		return "Linux"
	case ESPIDF:
		return "ESP-IDF"
	case Zephyr:
		return "Zephyr"
	default:
		return "Arduino (ESP32)"
	}
}

// smallTLS reports whether the platform's TLS refuses chains with extensions
// that it does not know.
func (p Platform) smallTLS() bool { return p == ESPIDF || p == Zephyr || p == Arduino }

// Door is where devices reach an installation.
type Door struct {
	Environment core.Environment
	Host        string // the name in the server's certificate that devices dial
	MQTTPort    int
	ESTHost     string // of the enrolment door
	ESTPort     int
	Roots       []byte // PEM of the certificates that the server's chain ends in
	ChainBytes  int    // what the server sends of its chain
	SmallTLS    bool   // whether Mbed TLS and BearSSL take it
}

// Facts are all that a kit is made from.
type Facts struct {
	Policy *declaration.Policy
	Door   Door
	Device core.DeviceID // the unit that the README's commands name; may be empty
}

// File is one file of a kit.
type File struct {
	Name    string // relative, with slashes
	Content []byte
}

// Render makes the files of a kit, by name. It fails for a platform that does
// not exist, for facts that are not whole, and where the platform cannot reach
// the installation.
func Render(f Facts, p Platform) ([]File, error) {
	if !slices.Contains(Platforms(), p) {
		return nil, core.E(core.Invalid, "kit-platform", fmt.Sprintf("there is no kit for %q", p), "take --linux, --python, --esp-idf, --zephyr or --arduino")
	}
	if f.Policy == nil || f.Door.Host == "" || f.Door.ESTHost == "" || f.Door.MQTTPort == 0 || f.Door.ESTPort == 0 {
		return nil, core.E(core.Invalid, "kit-facts", "the installation's names or ports are not known", "set `names` in its config.yaml to what devices dial")
	}
	if p.smallTLS() && !f.Door.SmallTLS {
		return nil, core.E(core.Unready, "kit-chain", "Mbed TLS refuses the certificate chain of this installation: its authority is from before name constraints were not critical",
			"devices with Mbed TLS need an installation made anew with this version of hawser")
	}
	for _, host := range []string{f.Door.Host, f.Door.ESTHost} {
		if _, err := netip.ParseAddr(host); err == nil && p.smallTLS() {
			return nil, core.E(core.Unready, "kit-address", fmt.Sprintf("devices would dial %s, and most releases of Mbed TLS compare host names only", host),
				"put a host name into `names` in the installation's config.yaml")
		}
	}
	roots, err := certificates(f.Door.Roots)
	if err != nil {
		return nil, err
	}
	v := newView(f, p, roots)
	var out []File
	for from, to := range p.folders() {
		all, err := fs.ReadDir(files, path.Join("files", from))
		if err != nil {
			return nil, fmt.Errorf("read the kit's templates: %w", err)
		}
		for _, e := range all {
			src, err := files.ReadFile(path.Join("files", from, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("read the kit's templates: %w", err)
			}
			file := File{Name: path.Join(to, strings.TrimSuffix(strings.ReplaceAll(e.Name(), "__", "/"), ".tmpl")), Content: src}
			if strings.HasSuffix(e.Name(), ".tmpl") {
				if file.Content, err = fill(e.Name(), src, v); err != nil {
					return nil, err
				}
			}
			out = append(out, file)
		}
	}
	out = append(out, File{Name: "hawser-roots.pem", Content: roots})
	if p == Python {
		b, err := json.MarshalIndent(settings(v), "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write the kit's settings: %w", err)
		}
		out = append(out, File{Name: "hawser_settings.json", Content: append(b, '\n')})
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func fill(name string, src []byte, v *view) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"c": cString, "ccom": cComment, "py": pyString, "pycom": pyComment, "md": markdown, "mdc": markdownCode, "upper": strings.ToUpper,
	}).Parse(string(src))
	if err != nil {
		return nil, fmt.Errorf("read the kit's template %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("fill the kit's template %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// maxRootsBytes bounds the certificates of a kit.
const maxRootsBytes = 16 << 10

// certificates takes a PEM file apart and puts it together again: only
// certificates go into a kit, never a key, and no text around them.
func certificates(in []byte) ([]byte, error) {
	var out []byte
	bad := core.E(core.Invalid, "kit-roots", "what the server's chain ends in is no PEM file of certificates alone", "look at root.pem in the installation's `ca` folder")
	if len(in) > maxRootsBytes {
		return nil, bad
	}
	for rest := in; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, bad
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})...)
	}
	if len(out) == 0 {
		return nil, bad
	}
	return out, nil
}
