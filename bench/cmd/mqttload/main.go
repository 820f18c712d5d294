// Command mqttload measures MQTT servers and raw TLS from outside: it opens
// many mutual-TLS connections, publishes at QoS 1 with a fixed number of
// unacknowledged messages each, and reports rate, latency and the processor
// time of the server as /proc counts it. It speaks just enough MQTT 5 and
// 3.1.1 by itself, so that it treats every server alike and shares no code
// with any of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

const usage = `usage: mqttload COMMAND [flags]

  certs       make a test CA, a server certificate and N device certificates
  run         publish at QoS 1 from N connections and measure (or echo, with -mode echo)
  idle        hold N connections that say nothing; resident memory of the server per connection
  handshakes  connect, CONNECT, close, again and again; processor time per handshake
  echo        serve raw TLS and send every byte back: the limit that no server beats

Each command lists its flags with -h.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	commands := map[string]func([]string) error{
		"certs": certs, "run": run, "idle": idle, "handshakes": handshakes, "echo": echo,
	}
	cmd, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := cmd(os.Args[2:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "mqttload:", err)
		os.Exit(1)
	}
}
