package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the machine of a CI job may have no list of time zones
)

// Window is when deployments may happen, week by week. An end at or before the start is on the next day.
type Window struct {
	// Days on which the window opens; every day if there are none.
	Days []time.Weekday
	// From and To are the hours between which it is open, as a time since midnight on the clock there. The whole day if both are 0.
	From, To time.Duration
	// Zone is where the clock hangs; UTC if nil.
	Zone *time.Location
}

// ParseWindow reads a window as the configuration has it: days such as mon or monday, times such as 09:00 or 24:00, and a
// time zone such as Europe/Berlin.
func ParseWindow(days []string, from, to, zone string) (*Window, error) {
	w := &Window{Zone: time.UTC}
	for _, d := range days {
		day, err := parseDay(d)
		if err != nil {
			return nil, err
		}
		w.Days = append(w.Days, day)
	}
	var err error
	if w.From, err = parseClock(from, 0); err != nil {
		return nil, err
	}
	if w.To, err = parseClock(to, 24*time.Hour); err != nil {
		return nil, err
	}
	if w.From == w.To {
		return nil, fmt.Errorf("the window from %s to %s has no length", from, to)
	}
	if zone != "" {
		// LoadLocation takes "Local" too, which is another zone on every machine.
		if w.Zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
			return nil, fmt.Errorf("unknown time zone %q: write it as Europe/Berlin, or UTC", zone)
		}
	}
	return w, nil
}

func parseDay(text string) (time.Weekday, error) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		name := strings.ToLower(day.String())
		if t := strings.ToLower(text); t == name || t == name[:3] {
			return day, nil
		}
	}
	return 0, fmt.Errorf("unknown day %q: write it as mon, tue, wed, thu, fri, sat or sun", text)
}

func parseClock(text string, otherwise time.Duration) (time.Duration, error) {
	switch text {
	case "":
		return otherwise, nil
	case "24:00":
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day: write it as 09:00", text)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// Contains reports whether the window is open at a time.
func (w *Window) Contains(t time.Time) bool {
	t = t.In(w.zone())
	for _, ago := range []int{0, 1} { // a window of yesterday may still be open
		opens, closes := w.on(t.AddDate(0, 0, -ago))
		if w.day(opens.Weekday()) && !t.Before(opens) && t.Before(closes) {
			return true
		}
	}
	return false
}

// Next returns when the window opens next, at or after a time at which it is closed.
func (w *Window) Next(t time.Time) (time.Time, error) {
	t = t.In(w.zone())
	for ahead := range 8 {
		opens, _ := w.on(t.AddDate(0, 0, ahead))
		if w.day(opens.Weekday()) && !opens.Before(t) {
			return opens, nil
		}
	}
	return time.Time{}, errors.New("the window never opens")
}

// on returns when the window of a day opens and closes. The clock's own time counts, on days with a change of it too.
func (w *Window) on(day time.Time) (opens, closes time.Time) {
	to := w.to()
	if to <= w.From {
		to += 24 * time.Hour
	}
	at := func(d time.Duration) time.Time {
		return time.Date(day.Year(), day.Month(), day.Day(), int(d/time.Hour), int(d%time.Hour/time.Minute), 0, 0, w.zone())
	}
	return at(w.From), at(to)
}

func (w *Window) to() time.Duration {
	if w.From == 0 && w.To == 0 {
		return 24 * time.Hour
	}
	return w.To
}

func (w *Window) day(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }

func (w *Window) zone() *time.Location {
	if w.Zone == nil {
		return time.UTC
	}
	return w.Zone
}

// String describes the window: "mon, tue 09:00-17:00 Europe/Berlin".
func (w *Window) String() string {
	days := "every day"
	if len(w.Days) > 0 {
		names := make([]string, len(w.Days))
		for i, d := range w.Days {
			names[i] = strings.ToLower(d.String()[:3])
		}
		days = strings.Join(names, ", ")
	}
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	return fmt.Sprintf("%s %s-%s %s", days, clock(w.From), clock(w.to()), w.zone())
}

func (w *Window) check(request Request) (refusal, pass string) {
	if w.Contains(request.Now) {
		return "", "within the deployment window " + w.String()
	}
	when := ""
	if next, err := w.Next(request.Now); err == nil {
		when = ", which opens next on " + next.Format("Monday, 2 January, at 15:04 MST")
	}
	return fmt.Sprintf("it is %s, outside of the deployment window of %s (%s)%s",
		request.Now.In(w.zone()).Format("Mon 15:04"), request.Environment, w, when), ""
}
