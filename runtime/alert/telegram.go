package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
)

// telegramAPI is the base of Telegram's bot API.
const telegramAPI = "https://api.telegram.org"

// telegramTimeout is shoutrrr's own.
const telegramTimeout = 10 * time.Second

// toTelegram sends a message to the chats of a telegram:// URL. shoutrrr reads the
// URL; it does not send it, because its version 0.13.2 reports no error if Telegram
// cannot be reached, or if something before it answers
// (telegram_client.go: GetErrorResponse of an empty body is nil).
func (se sender) toTelegram(ctx context.Context, rawURL, title, message string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return err
	}
	config := &telegram.Config{Preview: true, Notification: true}
	if err := config.SetURL(u); err != nil {
		return err
	}
	if config.Title == "" {
		config.Title = title
	}
	ctx, cancel := context.WithTimeout(ctx, telegramTimeout)
	defer cancel()
	for _, chat := range config.Chats {
		if err := se.postTelegram(ctx, config, telegramMessage(config, chat, message)); err != nil {
			return err
		}
	}
	return nil
}

type telegramPayload struct {
	Chat      string `json:"chat_id"`
	Thread    *int   `json:"message_thread_id,omitempty"`
	Text      string `json:"text"`
	ParseMode string `json:"parse_mode,omitempty"`
	NoPreview bool   `json:"disable_web_page_preview"`
	Silent    bool   `json:"disable_notification"`
}

// telegramMessage returns what shoutrrr would send: a title in bold above the text.
func telegramMessage(config *telegram.Config, chat, message string) telegramPayload {
	p := telegramPayload{Chat: chat, Text: message, NoPreview: !config.Preview, Silent: !config.Notification}
	if id, thread, ok := strings.Cut(chat, ":"); ok {
		if n, err := strconv.Atoi(thread); err == nil {
			p.Chat, p.Thread = id, &n
		}
	}
	mode := config.ParseMode
	if mode == telegram.ParseModes.None && config.Title != "" {
		mode, message = telegram.ParseModes.HTML, html.EscapeString(message)
	}
	if mode != telegram.ParseModes.None {
		p.ParseMode = mode.String()
	}
	if mode == telegram.ParseModes.HTML {
		p.Text = fmt.Sprintf("<b>%s</b>\n%s", html.EscapeString(config.Title), message)
	}
	return p
}

func (se sender) postTelegram(ctx context.Context, config *telegram.Config, p telegramPayload) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, se.telegram+"/bot"+config.Token+"/sendMessage", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := se.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		OK bool `json:"ok"`
	}
	const most = 1 << 20
	if err := json.NewDecoder(io.LimitReader(res.Body, most)).Decode(&answer); err != nil {
		return err
	}
	if !answer.OK {
		return errors.New("not ok")
	}
	return nil
}
