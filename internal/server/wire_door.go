package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hawser-iot/hawser/internal/api"
)

// Door says how devices reach this installation.
func (r running) Door(context.Context) (api.Door, error) {
	_, port, err := net.SplitHostPort(r.s.addr.Devices)
	if err != nil {
		return api.Door{}, fmt.Errorf("the devices' door has no port: %w", err)
	}
	d := api.Door{
		Environment: string(r.s.inst.Environment), HTTPS: r.s.publicHTTPS(), SmallTLS: true,
		Roots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.s.ca.Root().Raw})),
	}
	if d.MQTTPort, err = strconv.Atoi(port); err != nil {
		return api.Door{}, fmt.Errorf("the port of the devices' door: %w", err)
	}
	var addresses []string
	for _, n := range r.s.c.Names {
		if _, err := netip.ParseAddr(n); err == nil {
			addresses = append(addresses, n)
		} else {
			d.Hosts = append(d.Hosts, n)
		}
	}
	d.Hosts = append(d.Hosts, addresses...)
	shown, err := r.s.cert.GetCertificate(nil)
	if err != nil {
		return api.Door{}, err
	}
	for _, der := range shown.Certificate {
		d.ChainBytes += len(der)
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return api.Door{}, fmt.Errorf("the server's certificate: %w", err)
		}
		for _, e := range c.Extensions {
			if e.Critical && e.Id.String() == nameConstraints {
				d.SmallTLS = false
			}
		}
	}
	return d, nil
}

// nameConstraints is the extension of RFC 5280 §4.2.1.10.
const nameConstraints = "2.5.29.30"
