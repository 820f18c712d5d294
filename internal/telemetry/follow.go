package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hawser-iot/hawser/internal/core"
	"github.com/hawser-iot/hawser/internal/declaration"
	"github.com/hawser-iot/hawser/internal/seal"
)

// ServiceRole is what a service is called among the readers of a field.
func ServiceRole(service string) string { return "service:" + service }

// ServiceView is which values of a product's readings a service of the maker
// reads: those that the declaration gives it by which a reading was judged, if
// the one in force still does, and that are collected for a purpose of the
// service (CC 1.6, 4.5). Widening never reaches back, narrowing does at once.
type ServiceView struct {
	Product  core.ProductID
	Current  core.Hash // the declaration in force
	Fields   []string  // sorted
	Purposes []string  // sorted

	lanes map[core.Hash]map[lane][]string
	keeps map[time.Duration]bool
}

// NewServiceView works out what a service may read. policies are all versions
// of one product's declaration, oldest first. It fails with core.Denied when
// the declaration in force gives the service nothing.
func NewServiceView(policies []*declaration.Policy, service string) (*ServiceView, error) {
	if len(policies) == 0 {
		return nil, core.E(core.Unknown, "no-declaration", "the product has no declaration", "")
	}
	now := policies[len(policies)-1]
	v := &ServiceView{Product: now.Product, Current: now.Hash, lanes: map[core.Hash]map[lane][]string{}, keeps: map[time.Duration]bool{}}
	role, wanted := ServiceRole(service), purposesOf(now, service)
	allowed := func(f *declaration.Field, purposes []string) bool {
		return slices.Contains(f.Readers, role) && slices.ContainsFunc(f.Purposes, func(p string) bool { return slices.Contains(purposes, p) }) &&
			!slices.Contains(f.Protection, declaration.StepUp) && !slices.Contains(f.Protection, declaration.TwoPersons)
	}
	for _, p := range policies {
		then := purposesOf(p, service)
		lanes := map[lane][]string{}
		for i := range p.Fields {
			f := &p.Fields[i]
			_, inForce := now.Field(f.Name)
			if inForce == nil || !allowed(f, then) || !allowed(inForce, wanted) {
				continue
			}
			at := lane{f.Stream, uint8(f.Group)}
			lanes[at] = append(lanes[at], f.Name)
			v.keeps[f.Keep] = true
			if p == now {
				v.Fields = append(v.Fields, f.Name)
				for _, u := range f.Purposes {
					if slices.Contains(wanted, u) {
						v.Purposes = append(v.Purposes, u)
					}
				}
			}
		}
		v.lanes[p.Hash] = lanes
	}
	if len(v.Fields) == 0 {
		return nil, core.E(core.Denied, "not-a-reader", fmt.Sprintf("the declaration of %s gives %s nothing to read", now.Product, role),
			"name it among `readers` and `services` in the declaration, and publish that")
	}
	slices.Sort(v.Fields)
	slices.Sort(v.Purposes)
	v.Purposes = slices.Compact(v.Purposes)
	return v, nil
}

func purposesOf(p *declaration.Policy, service string) []string {
	for i := range p.Services {
		if p.Services[i].Name == service {
			return p.Services[i].Purposes
		}
	}
	return nil
}

// Keeps reports whether readings of that keep-time can hold something for it.
func (v *ServiceView) Keeps(keep time.Duration) bool { return v.keeps[keep] }

// Followed is one part of a reading, opened, with what the service may see.
// Its bytes are valid until yield returns.
type Followed struct {
	Row    *Row
	Values []byte // a JSON object
}

// FollowKeys open readings; *seal.Keyring has them.
type FollowKeys interface {
	Lease(core.Subject, core.Epoch) (*seal.Key, error)
}

// Follower reads epoch files in the order in which they were filed. It is for
// one goroutine.
type Follower struct {
	files Stretches
	keys  FollowKeys
	plain []byte
	aad   []byte
	out   []byte
}

// NewFollower reads those files with those keys.
func NewFollower(files Stretches, keys FollowKeys) (*Follower, error) {
	if files == nil || keys == nil {
		return nil, errors.New("follower: files and keys are required")
	}
	return &Follower{files: files, keys: keys}, nil
}

// Follow yields what the rows after one number, up to another, hold for a
// view, until yield says that it is enough. last is the last row that it
// looked at: the next call goes on behind it. What does not open any more,
// because its subject was erased or its epoch has ended, is passed over, and so
// is what was changed on disk: unreadable counts that.
func (f *Follower) Follow(ctx context.Context, v *ServiceView, e core.Epoch, after, upTo uint64, yield func(*Followed) (enough bool)) (last uint64, unreadable int, err error) {
	last = after
	err = f.files.Stretch(ctx, e, int64(after)+1, int64(upTo), func(row *Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		names := v.lanes[row.Reading.Policy][lane{row.Reading.Stream, row.Part.Group}]
		if row.Reading.Product != v.Product || len(names) == 0 {
			last = uint64(row.ID)
			return nil
		}
		values, err := f.open(row, names)
		switch {
		case err == nil:
		case errors.Is(err, seal.ErrNoKey):
			last = uint64(row.ID)
			return nil
		case core.KindOf(err) == core.Invalid:
			unreadable++
			last = uint64(row.ID)
			return nil
		default:
			return fmt.Errorf("follow epoch file %s: %w", e, err)
		}
		last = uint64(row.ID)
		if len(values) > 0 && yield(&Followed{Row: row, Values: values}) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return last, unreadable, err
}

// open gives the named members of a row; nothing when it has none of them.
func (f *Follower) open(row *Row, names []string) ([]byte, error) {
	for {
		key, err := f.keys.Lease(row.Reading.Subject, row.Part.Epoch)
		if err != nil {
			return nil, err
		}
		f.aad = AppendAAD(f.aad[:0], &row.Reading, &row.Part)
		f.plain, err = key.Open(f.plain[:0], row.Part.Sealed, f.aad)
		if errors.Is(err, seal.ErrLeaseOver) {
			continue // a minute passed since the line before
		}
		if err != nil {
			return nil, err
		}
		break
	}
	_, object, err := CutPlain(f.plain)
	if err != nil {
		return nil, err
	}
	f.out = append(f.out[:0], '{')
	err = eachMember(object, func(m jsonMember) {
		if !slices.Contains(names, string(m.name)) {
			return
		}
		if len(f.out) > 1 {
			f.out = append(f.out, ',')
		}
		f.out = append(f.out, m.whole...)
	})
	if err != nil {
		return nil, err
	}
	if len(f.out) == 1 {
		return nil, nil
	}
	f.out = append(f.out, '}')
	return f.out, nil
}

// Moved is closed when the projector next has filed something durably.
func (p *Projector) Moved() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}
