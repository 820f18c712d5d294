package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hawser-iot/hawser/internal/api"
	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/kit"
)

func kitCommands() []*command {
	return []*command{{
		name: "device kit", args: "PRODUCT-OR-DEVICE --linux|--python|--esp-idf|--zephyr|--arduino [--out DIR]", nargs: [2]int{1, 1},
		short: "write what firmware of a product needs to join",
		long: `Writes a folder with which a stock client of one platform joins this installation:
the certificate to trust, settings and readings made from the product's declaration in
force, a sketch that enrols, connects, sends, listens and renews, and a README that says
what to do in order, which mistakes are usual, and what of the kit was tested. The folder
holds no secret and is the same for every unit: a unit's enrolment code is given to the
unit at run time. Of a device, its product counts, and the README names it.`,
		example: "hawser device kit aria-thermostat --python --out aria-kit",
		flags: func(e *env) {
			e.flag("linux", "C, with Paho MQTT C and OpenSSL")
			e.flag("python", "Python, with Paho and its own TLS")
			e.flag("esp-idf", "ESP-IDF, with ESP-MQTT and Mbed TLS")
			e.flag("zephyr", "Zephyr, with its MQTT library and Mbed TLS")
			e.flag("arduino", "Arduino on ESP32, with arduino-mqtt and Mbed TLS")
			e.str("out", "", "the `folder` to write, which must not exist yet (without one: PRODUCT-PLATFORM)")
		},
		run: deviceKit,
	}}
}

// kitWritten is what --json prints.
type kitWritten struct {
	Kit      string         `json:"kit"` // the folder
	Product  core.ProductID `json:"product"`
	Platform kit.Platform   `json:"platform"`
	Files    []string       `json:"files"`
}

func deviceKit(ctx context.Context, e *env) error {
	var platform kit.Platform
	for _, p := range kit.Platforms() {
		if !*e.on[string(p)] {
			continue
		}
		if platform != "" {
			return core.E(core.Invalid, "kit-platform", "a kit is for one platform", "give one of --linux, --python, --esp-idf, --zephyr, --arduino")
		}
		platform = p
	}
	if platform == "" {
		return core.E(core.Invalid, "kit-platform", "no platform is named", "give one of --linux, --python, --esp-idf, --zephyr, --arduino")
	}
	facts, err := kitFacts(ctx, e)
	if err != nil {
		return err
	}
	files, err := kit.Render(facts, platform)
	if err != nil {
		return err
	}
	w := kitWritten{Kit: *e.opt["out"], Product: facts.Policy.Product, Platform: platform}
	if w.Kit == "" {
		w.Kit = string(w.Product) + "-" + string(platform)
	}
	if err := writeKit(w.Kit, files); err != nil {
		return err
	}
	for _, f := range files {
		w.Files = append(w.Files, f.Name)
	}
	return e.print(w, func(out io.Writer) {
		fmt.Fprintf(out, "%s: %d files. Begin with %s.\n", w.Kit, len(files), filepath.Join(w.Kit, "README.md"))
		fmt.Fprintf(out, "Units dial %s, ports %d and %d; the server sends %d bytes of certificates.\n", facts.Door.Host, facts.Door.MQTTPort, facts.Door.ESTPort, facts.Door.ChainBytes)
		if facts.Door.Host == "localhost" {
			fmt.Fprintln(out, "Units on other machines cannot dial localhost: set `names` in config.yaml to what they dial, restart, and make the kit again.")
		}
	})
}

// kitFacts asks the running server for the product's declaration and for its
// own names and ports.
func kitFacts(ctx context.Context, e *env) (kit.Facts, error) {
	c, err := e.client()
	if err != nil {
		return kit.Facts{}, err
	}
	var f kit.Facts
	var d api.Door
	product := core.ProductID(e.args[0])
	nobody := core.E(core.Unknown, "kit-unknown", fmt.Sprintf("there is neither a product nor a device called %q", e.args[0]), "`hawser declaration list` and `hawser device list` show what there is")
	err = nobody
	if product.Valid() {
		err = c.Call(ctx, "GET", "/v1/declarations/"+url.PathEscape(e.args[0])+"/door", nil, &d)
	}
	if core.KindOf(err) == core.Unknown && core.DeviceID(e.args[0]).Valid() {
		var dev api.Device
		if derr := c.Call(ctx, "GET", devicePath(e, ""), nil, &dev); core.KindOf(derr) == core.Unknown {
			return f, nobody
		} else if derr != nil {
			return f, derr
		}
		f.Device = dev.Device
		err = c.Call(ctx, "GET", "/v1/declarations/"+url.PathEscape(string(dev.Product))+"/door", nil, &d)
	}
	if err != nil {
		return f, err
	}
	if f.Policy, err = declaration.ParsePolicy([]byte(d.Policy)); err != nil {
		return f, err
	}
	f.Door = kit.Door{Environment: core.Environment(d.Environment), MQTTPort: d.MQTTPort, Roots: []byte(d.Roots), ChainBytes: d.ChainBytes, SmallTLS: d.SmallTLS}
	if len(d.Hosts) > 0 {
		f.Door.Host = d.Hosts[0]
	}
	u, err := url.Parse(d.HTTPS)
	if err != nil {
		return f, fmt.Errorf("the server's HTTPS address: %w", err)
	}
	f.Door.ESTHost, f.Door.ESTPort = u.Hostname(), 443
	if p := u.Port(); p != "" {
		if f.Door.ESTPort, err = strconv.Atoi(p); err != nil {
			return f, fmt.Errorf("the server's HTTPS port: %w", err)
		}
	}
	if net.ParseIP(f.Door.Host) != nil && net.ParseIP(f.Door.ESTHost) == nil {
		f.Door.ESTHost = f.Door.Host // no host name is in the certificate
	}
	return f, nil
}

// writeKit writes a new folder, and leaves one that is there alone.
func writeKit(to string, files []kit.File) error {
	if err := os.Mkdir(to, 0o755); errors.Is(err, os.ErrExist) {
		return core.E(core.Conflict, "kit-exists", fmt.Sprintf("%s is there already, and perhaps somebody's work in it", to), "name another folder with --out")
	} else if err != nil {
		return fmt.Errorf("make the kit's folder: %w", err)
	}
	for _, f := range files {
		name := filepath.Join(to, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("make the kit's folder: %w", err)
		}
		if err := os.WriteFile(name, f.Content, 0o644); err != nil {
			return fmt.Errorf("write the kit: %w", err)
		}
	}
	return nil
}
