package device_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/hawser-iot/hawser/device"
)

// A thermostat's firmware: one reading a minute, for ever, with or without a
// network.
func Example() {
	roots, err := os.ReadFile("/usr/share/thermostat/roots.pem") // shipped with the firmware
	if err != nil {
		slog.Error("no bundle", slog.Any("err", err))
		return
	}
	d, err := device.Open(device.Config{
		Serial:   "aria-1",
		Server:   "gateway.example",
		Roots:    roots,
		StateDir: "/var/lib/thermostat",
		EnrolmentCode: func() (string, error) { // asked once, before the first certificate
			code, err := os.ReadFile("/run/factory/enrolment-code")
			return string(code), err
		},
		Refused: func(r device.Refusal) {
			slog.Warn("the server did not take this", slog.String("reason", r.Reason), slog.String("text", r.Text))
		},
		Log: slog.Default(),
	})
	if err != nil {
		slog.Error("cannot start", slog.Any("err", err))
		return
	}
	defer d.Close() // the queue is on disk already

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			r := device.NewReading(time.Now()).
				Float("room_temperature", 21.4).
				Bool("heating_on", true)
			if err := d.Send("climate", r); err != nil {
				slog.Error("reading lost", slog.Any("err", err))
			}
			time.Sleep(time.Minute)
		}
	}()
	if err := d.Run(ctx); err != nil {
		slog.Error("cannot go on", slog.Any("err", err))
	}
}

// Errors say what is wrong, a stable reason for the program, and what to do.
func ExampleError() {
	_, err := device.Open(device.Config{Serial: "aria-1", Server: "gateway.example", StateDir: "/var/lib/thermostat"})
	if e, ok := errors.AsType[*device.Error](err); ok {
		fmt.Println(e.Reason)
		fmt.Println(e)
		fmt.Println(e.Hint)
	}
	// Output:
	// bad-config
	// the bundle of roots has no certificate in it
	// ship the PEM file of the server's root certificates
}
