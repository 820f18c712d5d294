package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// asset is one static file under the name that holds its digest, so that a
// browser may keep it for ever and never shows an old one.
type asset struct {
	url         string
	contentType string
	body        []byte
}

// assets are the static files by their plain name and by the last part of
// their address.
type assets struct {
	byName map[string]*asset
	byURL  map[string]*asset
}

const staticPrefix = "/static/"

func loadAssets(files fs.FS) (*assets, error) {
	a := &assets{byName: map[string]*asset{}, byURL: map[string]*asset{}}
	names, err := fs.Glob(files, "static/*")
	if err != nil {
		return nil, fmt.Errorf("list static files: %w", err)
	}
	for _, n := range names {
		body, err := fs.ReadFile(files, n)
		if err != nil {
			return nil, fmt.Errorf("read static file: %w", err)
		}
		sum := sha256.Sum256(body)
		name, ext := path.Base(n), path.Ext(n)
		hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext
		x := &asset{url: staticPrefix + hashed, contentType: contentType(ext), body: body}
		a.byName[name], a.byURL[hashed] = x, x
	}
	return a, nil
}

func contentType(ext string) string {
	switch ext { // not left to the machine's own table
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(ext)
}

// url is the address of a static file; an unknown one is a fault of a template
// and found when it is first drawn.
func (a *assets) url(name string) (string, error) {
	x := a.byName[name]
	if x == nil {
		return "", fmt.Errorf("there is no static file %s", name)
	}
	return x.url, nil
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	x := a.byURL[r.PathValue("name")]
	if x == nil {
		http.Error(w, "there is no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", x.contentType)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(x.body) // the client left
}
