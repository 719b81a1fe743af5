package alert

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"moonseal/runtime/problem"
)

// Shoutrrr sends to services by their URLs: mail, Teams, Slack, Webex and others
// (https://shoutrrr.nickfedor.com/services/overview/). urls gives the URLs anew
// for each message, since they are secrets.
func Shoutrrr(urls func(ctx context.Context) ([]string, error)) Send {
	return func(ctx context.Context, title, message string) error {
		list, err := urls(ctx)
		if err != nil || len(list) == 0 {
			return err
		}
		sender, err := shoutrrr.CreateSender(list...)
		if err != nil {
			// The error may hold the URL, which holds a token.
			return &problem.Error{Kind: problem.Usage, Target: "alerts", Message: "one of the URLs is none that alerts can be sent to"}
		}
		var failed int
		for _, err := range sender.Send(message, &types.Params{"title": title}) {
			if err != nil {
				failed++
			}
		}
		if failed > 0 {
			return &problem.Error{Kind: problem.Unavailable, Target: "alerts", Message: "a service did not take the message"}
		}
		return nil
	}
}

// Heartbeat asks for url, so that who watches it misses a daemon that is dead.
func Heartbeat(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the heartbeat's URL is none")
	}
	res, err := client.Do(req)
	if err != nil {
		return problem.Network(err)
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return problem.Status(res.StatusCode, nil, "", time.Time{}) // the next one comes when it comes
	}
	return nil
}
