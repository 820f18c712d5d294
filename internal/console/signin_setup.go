package console

import (
	"fmt"
	"image/color"
	"net/http"
	"strings"

	"github.com/boombuler/barcode/qr"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// setUpForm is what the set-up page shows: a newcomer's first screen.
type setUpForm struct {
	access.Invitation
	Link    string
	Problem *notice
	Name    string
	Mail    string
	Does    []string // what each of the roles may do
}

// offerForm shows the secret of one-time codes and asks for a first one.
type offerForm struct {
	Offer   access.Offer
	QR      qrCode
	Action  string
	Back    string
	Problem *notice
}

// codesForm shows recovery codes, once.
type codesForm struct {
	Codes []string
	Next  string
}

func (s *SignIn) setUpPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	inv, err := s.a.Setup(r.Context(), from(r), r.PathValue("link"))
	if err != nil {
		return err
	}
	return s.drawSetUp(w, r, v, http.StatusOK, setUpForm{Invitation: inv})
}

func (s *SignIn) drawSetUp(w http.ResponseWriter, r *http.Request, v Visitor, status int, f setUpForm) error {
	f.Link = r.PathValue("link")
	for _, role := range f.Roles {
		f.Does = append(f.Does, fmt.Sprintf("%s: %s", role, role.Says()))
	}
	if !f.Period.IsZero() {
		f.Does = []string{"assessor: reads what is proved, and the ledger from the first day of the period on; draws samples, takes the evidence along"}
	}
	return s.c.show(w, r, v, status, "setup", page{Title: "Welcome", Narrow: true, Data: f})
}

func (s *SignIn) setUp(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ctx, link, old := r.Context(), r.PathValue("link"), cookie(r, sessionCookie)
	who := access.Details{Name: r.PostFormValue("name"), Mail: r.PostFormValue("mail")}
	switch r.PathValue("step") {
	case "begin":
		options, err := s.a.SetupPasskey(ctx, from(r), link, who)
		return begin(w, "", options, err)
	case "passkey":
		in, err := s.a.SetupPasskeyDone(ctx, from(r), link, old, []byte(r.PostFormValue("answer")))
		if err != nil {
			return s.setUpAgain(w, r, v, who, err)
		}
		return s.goOn(w, r, in)
	case "password":
		o, err := s.a.SetupPassword(ctx, from(r), link, who, r.PostFormValue("password"))
		if err != nil {
			return s.setUpAgain(w, r, v, who, err)
		}
		return s.drawOffer(w, r, v, http.StatusOK, offerForm{Offer: o, Action: access.SetupPath + link + "/code", Back: access.SetupPath + link})
	case "code":
		in, err := s.a.SetupPasswordDone(ctx, from(r), link, old, r.PostFormValue("code"))
		if err == nil {
			enter(w, in)
			return s.drawCodes(w, r, in.Session, in.Codes, home(in.Session))
		}
		o, oerr := s.a.SetupOffer(ctx, from(r), link)
		if oerr != nil { // begin again
			return s.setUpAgain(w, r, v, who, err)
		}
		n, status, err := told(w, err)
		if err != nil {
			return err
		}
		return s.drawOffer(w, r, v, status, offerForm{Offer: o, Problem: n, Action: access.SetupPath + link + "/code", Back: access.SetupPath + link})
	}
	return noStep()
}

// setUpAgain shows the set-up page once more, with what is wrong. A link that
// does not work (any more) is a page of its own.
func (s *SignIn) setUpAgain(w http.ResponseWriter, r *http.Request, v Visitor, who access.Details, err error) error {
	n, status, err := told(w, err)
	if err != nil {
		return err
	}
	inv, err := s.a.Setup(r.Context(), from(r), r.PathValue("link"))
	if err != nil {
		return err
	}
	return s.drawSetUp(w, r, v, status, setUpForm{Invitation: inv, Problem: n, Name: who.Name, Mail: who.Mail})
}

func (s *SignIn) drawOffer(w http.ResponseWriter, r *http.Request, v Visitor, status int, f offerForm) error {
	var err error
	if f.QR, err = drawQR(f.Offer.URI); err != nil {
		return err
	}
	return s.c.show(w, r, v, status, "offer", page{Title: "One-time codes", Narrow: true, Data: f})
}

func (s *SignIn) drawCodes(w http.ResponseWriter, r *http.Request, ses access.Session, codes []string, to string) error {
	v := Visitor{Actor: ses.Actor(), Name: ses.Name, Approver: ses.Approver, Session: ses.ID, Check: ses.May}
	for _, role := range ses.Roles {
		v.Roles = append(v.Roles, string(role))
	}
	return s.c.show(w, r, v, http.StatusOK, "codes", page{Title: "Recovery codes", Narrow: true, Data: codesForm{Codes: codes, Next: to}})
}

// qrCode is a QR code as the path of an SVG, one unit a module.
type qrCode struct {
	Size int
	Path string
}

// quiet is the margin that readers need (ISO/IEC 18004).
const quietModules = 4

func drawQR(text string) (qrCode, error) {
	b, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return qrCode{}, &core.Error{Kind: core.Internal, Reason: "qr", Message: "draw the QR code", Err: err}
	}
	n := b.Bounds().Dx()
	var path strings.Builder
	for y := range n {
		for x := range n {
			if b.At(x, y) == color.Black {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quietModules, y+quietModules)
			}
		}
	}
	return qrCode{Size: n + 2*quietModules, Path: path.String()}, nil
}
