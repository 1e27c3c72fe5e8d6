package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"portolan/internal/fleet"
)

// The life of a session, and how often its use is written down: a page must
// not cost a write.
const (
	CookieName   = "portolan_session"
	idleLife     = 12 * time.Hour
	absoluteLife = 7 * 24 * time.Hour
	touchEvery   = 5 * time.Minute
	// recheckTimeout bounds how long a stream waits to hear that it may go on.
	// It sends nothing meanwhile.
	recheckTimeout = 20 * time.Second
)

// What a session holds. Times are Unix seconds: the codec knows plain types.
const (
	keyUser    = "user"
	keyEpoch   = "epoch"
	keyTouched = "touched"
	keyNotice  = "notice"
)

func newManager(store SessionStore, secure bool) *scs.SessionManager {
	m := scs.New()
	if store != nil {
		m.Store = finder{store}
	}
	m.Lifetime, m.IdleTimeout = absoluteLife, idleLife
	m.HashTokenInStore = true // a dump of the database opens no session
	m.Cookie.Name = CookieName
	m.Cookie.HttpOnly = true
	m.Cookie.SameSite = http.SameSiteLaxMode
	m.Cookie.Secure = secure
	return m
}

// finder lets the one question that every page begins with bring both the
// session and its user.
type finder struct{ SessionStore }

type foundKey struct{}

// FindCtx finds a session for the library, and puts its user where load has made
// room in ctx.
func (f finder) FindCtx(ctx context.Context, tokenHash string) ([]byte, bool, error) {
	data, u, found, err := f.FindWithUser(ctx, tokenHash)
	if room, ok := ctx.Value(foundKey{}).(*fleet.User); ok {
		*room = u
	}
	return data, found, err
}

// load returns ctx with the session of the token and its user.
func (s *Service) load(ctx context.Context, token string) (context.Context, error) {
	return s.manager.Load(context.WithValue(ctx, foundKey{}, new(fleet.User)), token)
}

// Client is where a request comes from.
type Client struct {
	Address string
	Agent   string // its User-Agent
	Secure  bool   // it was sent by TLS, to us or to a proxy that we trust
}

type clientKey struct{}

// Attach returns the request with its session in the context.
func (s *Service) Attach(r *http.Request, c Client) (*http.Request, error) {
	var token string
	if c, err := r.Cookie(CookieName); err == nil {
		token = c.Value
	}
	ctx, err := s.load(context.WithValue(r.Context(), clientKey{}, c), token)
	if err != nil {
		return r, err
	}
	return r.WithContext(ctx), nil
}

// Authenticate returns the person whose session is in the context, as the users'
// table had them when the session was read, or ErrNobody.
func (s *Service) Authenticate(ctx context.Context) (fleet.User, error) {
	id := s.manager.GetString(ctx, keyUser)
	if id == "" {
		return fleet.User{}, ErrNobody
	}
	u, _ := ctx.Value(foundKey{}).(*fleet.User)
	switch {
	case u == nil || u.ID != id:
		return fleet.User{}, ErrNobody
	case u.Disabled || u.Epoch != s.manager.GetInt64(ctx, keyEpoch):
		return fleet.User{}, ErrNobody
	}
	return *u, nil
}

// Recheck is Authenticate with the session read anew, for requests that last:
// the context of a request keeps the session as it was at its start.
func (s *Service) Recheck(ctx context.Context) (fleet.User, error) {
	token := s.manager.Token(ctx)
	if token == "" {
		return fleet.User{}, ErrNobody
	}
	fresh, cancel := context.WithTimeout(context.Background(), recheckTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	fresh, err := s.load(fresh, token)
	if err != nil {
		return fleet.User{}, err
	}
	return s.Authenticate(fresh)
}

// Touch prolongs a session that is in use.
func (s *Service) Touch(ctx context.Context, w http.ResponseWriter) error {
	if time.Since(time.Unix(s.manager.GetInt64(ctx, keyTouched), 0)) < touchEvery {
		return nil
	}
	return s.commit(ctx, w)
}

// Start signs u in under a new token, so that one which was known before is
// worth nothing.
func (s *Service) Start(ctx context.Context, w http.ResponseWriter, u fleet.User) error {
	if err := s.manager.Clear(ctx); err != nil {
		return err
	}
	if err := s.manager.RenewToken(ctx); err != nil {
		return err
	}
	s.manager.Put(ctx, keyUser, u.ID)
	s.manager.Put(ctx, keyEpoch, u.Epoch)
	return s.commit(ctx, w)
}

// Logout ends the session.
func (s *Service) Logout(ctx context.Context, w http.ResponseWriter, actor fleet.Actor) error {
	if err := s.manager.Destroy(ctx); err != nil {
		return err
	}
	s.writeCookie(ctx, w, "", time.Time{})
	s.audit(ctx, fleet.AuditEntry{Actor: actor.Email, Address: actor.Address, Action: "logout", Outcome: "ok"})
	return nil
}

// SetNotice keeps a sentence for the next page of the session.
func (s *Service) SetNotice(ctx context.Context, w http.ResponseWriter, text string) error {
	s.manager.Put(ctx, keyNotice, text)
	return s.commit(ctx, w)
}

// TakeNotice returns what SetNotice kept, once.
func (s *Service) TakeNotice(ctx context.Context, w http.ResponseWriter) (string, error) {
	if !s.manager.Exists(ctx, keyNotice) {
		return "", nil
	}
	text := s.manager.PopString(ctx, keyNotice)
	return text, s.commit(ctx, w)
}

func (s *Service) commit(ctx context.Context, w http.ResponseWriter) error {
	s.manager.Put(ctx, keyTouched, time.Now().Unix())
	token, expiry, err := s.manager.Commit(ctx)
	if err != nil {
		return err
	}
	if id := s.manager.GetString(ctx, keyUser); id != "" {
		c, _ := ctx.Value(clientKey{}).(Client)
		if err := s.store.NoteSession(ctx, storedToken(token), fleet.Session{UserID: id, Address: c.Address, Agent: c.Agent}); err != nil {
			return err
		}
	}
	s.writeCookie(ctx, w, token, expiry)
	return nil
}

// writeCookie marks the cookie Secure when the request came by TLS, whatever
// address was configured.
func (s *Service) writeCookie(ctx context.Context, w http.ResponseWriter, token string, expiry time.Time) {
	h := w.Header()
	h.Del("Set-Cookie") // the session's is the only one
	s.manager.WriteSessionCookie(ctx, w, token, expiry)
	if c, _ := ctx.Value(clientKey{}).(Client); c.Secure && !s.manager.Cookie.Secure {
		h.Set("Set-Cookie", h.Get("Set-Cookie")+"; Secure")
	}
}

// storedToken is what the session library keeps of a token (its hashToken).
func storedToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Sessions returns where the person is signed in; the session of ctx is marked.
func (s *Service) Sessions(ctx context.Context, u fleet.User) ([]fleet.Session, error) {
	return s.store.SessionsOf(ctx, u.ID, storedToken(s.manager.Token(ctx)))
}

// EndSession ends one of the person's own sessions; CodeNotFound.
func (s *Service) EndSession(ctx context.Context, u fleet.User, actor fleet.Actor, id string) error {
	entry := userEntry(actor, "end-session", u.Email)
	return s.refused(ctx, entry, s.store.EndSession(ctx, u.ID, id, entry))
}

// EndOtherSessions ends all of the person's sessions but that of ctx, which
// goes on under a new token. u is as Authenticate returned it; a session that
// was ended since is ErrNobody.
func (s *Service) EndOtherSessions(ctx context.Context, w http.ResponseWriter, u fleet.User, actor fleet.Actor) error {
	epoch, err := s.store.EndOwnSessions(ctx, u, storedToken(s.manager.Token(ctx)), userEntry(actor, "end-sessions", u.Email))
	return s.restart(ctx, w, u, epoch, err)
}

// restart signs the person in anew after all their sessions have ended. It
// takes the epoch that this made, never a later one: whoever has ended the
// session meanwhile meant this request too.
func (s *Service) restart(ctx context.Context, w http.ResponseWriter, u fleet.User, epoch int64, err error) error {
	switch {
	case fleet.CodeOf(err) == fleet.CodeNotFound:
		return ErrNobody
	case err != nil:
		return err
	}
	u.Epoch = epoch
	return s.Start(ctx, w, u)
}
