package alert

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"moonseal/runtime/problem"
)

// ErrPartly is among the errors of a message that only some services accepted: it is not
// retried, because those would get it each time.
var ErrPartly = errors.New("other services accepted it")

// Service is where alerts go.
type Service struct {
	Name string // of the secret that holds the URL
	URL  string // a secret: it is in no error
}

// Shoutrrr sends to services by their URLs: mail, Teams, Slack, Webex and others
// (https://shoutrrr.nickfedor.com/services/overview/). services is called for each message,
// since they are secrets.
func Shoutrrr(services func(ctx context.Context) ([]Service, error)) Send {
	return sender{client: &http.Client{}, telegram: telegramAPI}.toAll(services)
}

// sender sends messages. Its fields are for services that are not sent to by shoutrrr.
type sender struct {
	client   *http.Client
	telegram string // the base of its API
}

func (se sender) toAll(services func(ctx context.Context) ([]Service, error)) Send {
	return func(ctx context.Context, title, message string) error {
		list, err := services(ctx)
		if err != nil {
			return err
		}
		var failed []error
		for _, s := range list {
			if err := se.send(ctx, s, title, message); err != nil {
				failed = append(failed, err)
			}
		}
		if n := len(failed); n > 0 && n < len(list) {
			failed = append(failed, ErrPartly)
		}
		return errors.Join(failed...)
	}
}

func (se sender) send(ctx context.Context, s Service, title, message string) error {
	router, err := shoutrrr.CreateSender(s.URL)
	if err != nil { // the error may hold the URL, which holds a token
		return &problem.Error{
			Kind: problem.Usage, Target: "alerts", Message: "secret " + s.Name + " is not a URL that alerts can be sent to",
			Hint: "https://shoutrrr.nickfedor.com/services/overview/ shows what each service expects",
		}
	}
	var failed []error
	if u, err := url.Parse(s.URL); err == nil && u.Scheme == telegram.Scheme {
		failed = []error{se.toTelegram(ctx, s.URL, title, message)}
	} else {
		failed = router.Send(message, &types.Params{"title": title})
	}
	if errors.Join(failed...) != nil { // the error may hold the URL too
		return &problem.Error{Kind: problem.Unavailable, Target: "alerts", Message: "the service of " + s.Name + " did not accept the message"}
	}
	return nil
}

// Heartbeat requests url, so that a monitor behind it notices if the daemon dies.
func Heartbeat(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the heartbeat's URL is malformed")
	}
	res, err := client.Do(req)
	if err != nil {
		return problem.Network(err)
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return problem.Status(res.StatusCode, nil, "", time.Time{}) // no Retry-After: the next one comes in its turn
	}
	return nil
}
