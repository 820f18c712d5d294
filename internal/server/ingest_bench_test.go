package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
)

// BenchmarkIngest sends batches of 500 readings of about 110 bytes from 128
// devices over kept connections, through the whole server: mutual TLS, judge,
// seal, journal on disk, projector beside it. The client shares the machine,
// and its processor time counts here too. keyed is the same with a key each.
func BenchmarkIngest(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		b.Run(fmt.Sprintf("keyed=%t", keyed), func(b *testing.B) {
			l := start(b, newHome(b, core.Test, "device_messages_per_second: 1000000\nproduct_messages_per_second: 10000000\n"))
			l.publish(b, strings.Replace(testDeclaration, "every: 10ms, burst: 1000", "every: 1ms, burst: 10000", 1))
			const devices, workers, each = 128, 16, 500
			var posters []*poster
			for i := range devices {
				posters = append(posters, newPoster(l, l.enrol(b, core.DeviceID(fmt.Sprintf("A%d", i))), b))
			}
			for _, p := range posters {
				p.post(b, "climate", jsonType, `{"temp":1}`).want(b, "a first request", 200, "")
			}
			note := strings.Repeat("n", 50)
			var refused atomic.Int64
			var work sync.WaitGroup
			b.ResetTimer()
			began, cpu := time.Now(), processorTime(b)
			for w := range workers {
				work.Go(func() {
					for n := int64(w); n < int64(b.N); n += workers {
						p := posters[n%devices] // its pace and rate allow some twenty at once
						var body strings.Builder
						for i := range each {
							fmt.Fprintf(&body, "{\"temp\":%d.%d,\"note\":\"%s\",\"secret\":%d,\"boot\":1,\"seq\":%d}\n", i%40, i%10, note, i, n*each+int64(i))
						}
						headers := []string{}
						if keyed {
							headers = []string{"Idempotency-Key", fmt.Sprintf("batch-%d", n)}
						}
						for {
							r, err := p.try("climate", "application/x-ndjson", body.String(), headers...)
							if err != nil {
								b.Errorf("post: %v", err)
								return
							}
							if r.status == 200 {
								if want := `{"accepted":500,"dropped":0,"refused":[]}`; r.body != want {
									b.Errorf("answer %s, want %s", r.body, want)
								}
								break
							}
							if refused.Add(1) > 100 {
								b.Errorf("too many refusals: %d %s", r.status, r.body)
								return
							}
							time.Sleep(10 * time.Millisecond)
						}
					}
				})
			}
			work.Wait()
			took := time.Since(began)
			b.StopTimer()
			b.ReportMetric(float64(b.N*each)/took.Seconds(), "readings/s")
			b.ReportMetric(float64(processorTime(b)-cpu)/float64(b.N*each)/1e3, "cpu-µs/reading")
			b.ReportMetric(float64(refused.Load()), "refusals")
		})
	}
}
