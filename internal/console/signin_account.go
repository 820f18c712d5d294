package console

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/hawser-iot/hawser/internal/access"
	"github.com/hawser-iot/hawser/internal/core"
)

// accountView is a person's own page.
type accountView struct {
	access.Account
	Sessions []access.OwnSession
	Notices  []access.Notice
	Unseen   int64 // the newest that was not seen; 0: none
	Problem  *notice
	Done     string
}

// doneText is what a page says after a form was taken; the address only names
// one of these.
func doneText(what string) string {
	switch what {
	case "passkey":
		return "The passkey is added."
	case "removed":
		return "The passkey is removed."
	case "password":
		return "Password and one-time codes are removed."
	case "session":
		return "The session is ended."
	}
	return ""
}

func (s *SignIn) accountPage(w http.ResponseWriter, r *http.Request, v Visitor) error {
	return s.drawAccount(w, r, v, http.StatusOK, accountView{Done: doneText(r.URL.Query().Get("done"))})
}

func (s *SignIn) drawAccount(w http.ResponseWriter, r *http.Request, v Visitor, status int, view accountView) error {
	ses, err := s.session(r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	if view.Account, err = s.a.Account(ctx, ses); err != nil {
		return err
	}
	if view.Sessions, err = s.a.Sessions(ctx, ses); err != nil {
		return err
	}
	if view.Notices, err = s.a.Notices(ctx, ses); err != nil {
		return err
	}
	for i := range view.Sessions {
		view.Sessions[i].Browser.Agent = browserName(view.Sessions[i].Browser.Agent)
	}
	for _, n := range view.Notices {
		if n.Seen.IsZero() {
			view.Unseen = max(view.Unseen, n.ID)
		}
	}
	return s.c.show(w, r, v, status, "account", page{Title: "Your account", Data: view})
}

func (s *SignIn) account(w http.ResponseWriter, r *http.Request, v Visitor) error {
	ses, err := s.session(r)
	if err != nil {
		return err
	}
	ctx, done := r.Context(), ""
	switch r.PathValue("step") {
	case "begin":
		options, err := s.a.AddPasskey(ctx, ses)
		return begin(w, "", options, err)
	case "passkey":
		done, err = "passkey", s.a.AddPasskeyDone(ctx, ses, r.PostFormValue("label"), []byte(r.PostFormValue("answer")))
	case "remove":
		done, err = "removed", s.a.RemovePasskey(ctx, ses, r.PostFormValue("passkey"))
	case "password":
		o, err := s.a.SetPassword(ctx, ses, r.PostFormValue("password"))
		if err != nil {
			return s.accountAgain(w, r, v, err)
		}
		return s.drawOffer(w, r, v, http.StatusOK, offerForm{Offer: o, Action: accountPath + "/code", Back: accountPath})
	case "code":
		return s.accountCode(w, r, v, ses)
	case "no-password":
		done, err = "password", s.a.RemovePassword(ctx, ses)
	case "codes":
		codes, err := s.a.NewRecoveryCodes(ctx, ses)
		if err != nil {
			return s.accountAgain(w, r, v, err)
		}
		return s.drawCodes(w, r, ses, codes, accountPath)
	case "session":
		done, err = "session", s.a.EndSession(ctx, ses, r.PostFormValue("session"))
	case "everywhere":
		if err := s.a.SignOutEverywhere(ctx, ses); err != nil {
			return err
		}
		out(w)
		http.Redirect(w, r, signInPath, http.StatusSeeOther)
		return nil
	case "seen":
		upTo, perr := strconv.ParseInt(r.PostFormValue("up-to"), 10, 64)
		if perr != nil {
			return core.E(core.Invalid, "notice", "there is no such notice", "load the page again")
		}
		if err := s.a.SeeNotices(ctx, ses, upTo); err != nil {
			return err
		}
		http.Redirect(w, r, accountPath, http.StatusSeeOther)
		return nil
	default:
		return noStep()
	}
	if err != nil {
		return s.accountAgain(w, r, v, err)
	}
	http.Redirect(w, r, accountPath+"?done="+done, http.StatusSeeOther)
	return nil
}

func (s *SignIn) accountCode(w http.ResponseWriter, r *http.Request, v Visitor, ses access.Session) error {
	codes, err := s.a.SetPasswordDone(r.Context(), from(r), ses, r.PostFormValue("code"))
	if err == nil {
		return s.drawCodes(w, r, ses, codes, accountPath)
	}
	o, oerr := s.a.PasswordOffer(ses)
	if oerr != nil { // begin again
		return s.accountAgain(w, r, v, err)
	}
	n, status, err := told(w, err)
	if err != nil {
		return err
	}
	return s.drawOffer(w, r, v, status, offerForm{Offer: o, Problem: n, Action: accountPath + "/code", Back: accountPath})
}

// accountAgain shows the account with what is wrong.
func (s *SignIn) accountAgain(w http.ResponseWriter, r *http.Request, v Visitor, err error) error {
	n, status, err := told(w, err)
	if err != nil {
		return err
	}
	return s.drawAccount(w, r, v, status, accountView{Problem: n})
}

// browserName is what a browser calls itself, as its person would call it.
func browserName(agent string) string {
	first := func(names ...[2]string) string {
		for _, n := range names {
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	program := first([2]string{"Edg/", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"Firefox/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := first([2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Android", "Android"}, [2]string{"Mac OS X", "Mac"}, [2]string{"Windows", "Windows"}, [2]string{"CrOS", "Chromebook"}, [2]string{"Linux", "Linux"})
	switch {
	case program != "" && system != "":
		return program + " on " + system
	case agent == "":
		return "a program without a name"
	default:
		return agent
	}
}
