package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// maxAnswerLineBytes bounds one line of a streamed answer.
const maxAnswerLineBytes = 1 << 20

// Client talks to a running server over its local socket.
type Client struct{ http *http.Client }

// NewClient is a client for the server behind a local socket.
func NewClient(socket string) *Client {
	var d net.Dialer
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second,
	}}}
}

// Call sends in (nil for none) and reads the answer into out (nil for none).
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.do(ctx, method, path, "application/json", in)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// Stream sends in and hands every line of the answer to each.
func (c *Client) Stream(ctx context.Context, method, path string, in any, each func(line []byte) error) error {
	body, err := c.do(ctx, method, path, linesType, in)
	if err != nil {
		return err
	}
	defer body.Close()
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 0, 64<<10), maxAnswerLineBytes)
	for sc.Scan() {
		if err := each(sc.Bytes()); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path, accept string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://hawser"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, core.E(core.Unavail, "no-server", "no server is running for this home folder", "start it with `hawser serve`, or name another folder with --home")
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, core.E(core.Denied, "socket-permission", "this user may not reach the server's local socket", "run the command as the user that runs the server")
		}
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var p Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerLineBytes)).Decode(&p); err != nil || p.Title == "" {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	return nil, core.E(kindOfStatus(resp.StatusCode), p.Type, p.Title, p.Hint)
}
