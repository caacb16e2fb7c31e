package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Network is what the engine's network is called and made of, and what the host was like before it.
type Network struct {
	// Name is the prefix of the bridge's name.
	Name string `json:"name"`
	// CIDR is the address range of the containers.
	CIDR string `json:"cidr"`
	// Forward is the host's net.ipv4.ip_forward as it was.
	Forward string `json:"forward"`
	// Rules are those of the firewall that have to do with forwarding, as they were, in iptables' own words.
	Rules []string `json:"rules"`
}

// bridge is the name of the network's interface. The engine makes it of the name that it gets.
func (n Network) bridge() string { return n.Name + "0" }

// rules are the firewall's for the whole network: its containers reach out, with the host's address, and get answers. Each is
// what iptables takes behind -I, -C and -D. They are here once, and not made by the network plugins, which have some of their
// own for each container: of a container's start, those took more of the processor than all the rest of its network.
func (n Network) rules() []rule {
	return []rule{
		{"nat", []string{"POSTROUTING", "-s", n.CIDR, "!", "-d", n.CIDR, "-m", "comment", "--comment", n.Name, "-j", "MASQUERADE"}},
		{"filter", []string{"FORWARD", "-s", n.CIDR, "-m", "comment", "--comment", n.Name, "-j", "ACCEPT"}},
		{"filter", []string{"FORWARD", "-d", n.CIDR, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-m", "comment", "--comment", n.Name, "-j", "ACCEPT"}},
	}
}

// rule is one of the firewall's: its table, and the rest in iptables' words.
type rule struct {
	table string
	words []string
}

const ipForward = "/proc/sys/net/ipv4/ip_forward"

// recordNetwork chooses a network for the engine, and notes in dir what the host is like now.
func recordNetwork(dir string) (Network, error) {
	cidr, err := freeNetwork()
	if err != nil {
		return Network{}, err
	}
	forward, err := os.ReadFile(ipForward)
	if err != nil {
		return Network{}, err
	}
	rules, err := forwardingRules()
	if err != nil {
		return Network{}, err
	}
	// The name of an interface has at most 15 characters.
	n := Network{Name: "millrace-" + filepath.Base(dir)[:4], CIDR: cidr, Forward: strings.TrimSpace(string(forward)), Rules: rules}
	if err := n.inherit(dir); err != nil {
		return Network{}, err
	}
	return n, writeJSON(filepath.Join(dir, networkRecord), n)
}

const networkRecord = "network.json"

// inherit takes over what the host was like before from the record of another engine that has not gone yet: what that one has
// made of the host is not how the host was.
func (n *Network) inherit(dir string) error {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", networkRecord))
	if err != nil {
		return err
	}
	for _, record := range others {
		if filepath.Dir(record) == dir {
			continue
		}
		// One that has gone meanwhile, or can't be read, has nothing to say.
		if other, err := readNetwork(record); err == nil {
			n.Forward, n.Rules = other.Forward, other.Rules
			return nil
		}
	}
	return nil
}

func readNetwork(record string) (Network, error) {
	data, err := os.ReadFile(record)
	if err != nil {
		return Network{}, err
	}
	var n Network
	if err := json.Unmarshal(data, &n); err != nil {
		return Network{}, fmt.Errorf("read %s: %w", record, err)
	}
	return n, nil
}

// freeNetwork returns a private range that overlaps with no address or route of the host.
func freeNetwork() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	routes, err := exec.Command("ip", "-4", "route", "show", "table", "all").Output()
	if err != nil {
		return "", fmt.Errorf("list the host's routes: %w", err)
	}
	var taken []netip.Prefix
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			taken = append(taken, p.Masked())
		}
	}
	for _, word := range strings.Fields(string(routes)) {
		if p, err := netip.ParsePrefix(word); err == nil && p.Bits() > 0 {
			taken = append(taken, p.Masked())
		}
	}
	for second := 88; second < 128; second++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), 0, 0}), 16)
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p.String(), nil
		}
	}
	return "", errors.New("no private address range is free for the engine's containers: 10.88.0.0/16 to 10.127.0.0/16 are all in use")
}

// forwardingRules lists the rules of the firewall that have to do with forwarding.
func forwardingRules() ([]string, error) {
	var rules []string
	for _, chain := range []string{"nat/POSTROUTING", "filter/FORWARD"} {
		table, name, _ := strings.Cut(chain, "/")
		out, err := exec.Command("iptables", "--wait", "-t", table, "-S", name).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("list the firewall's rules of %s: %w\n%s", chain, err, lastLines(out, 3))
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "-A ") {
				rules = append(rules, table+" "+line)
			}
		}
	}
	return rules, nil
}

// open lets the network's containers through the firewall.
func (n Network) open() error {
	for _, r := range n.rules() {
		if out, err := r.iptables("-I").CombinedOutput(); err != nil {
			return fmt.Errorf("let containers through the firewall: iptables -t %s -I %s: %w\n%s", r.table, strings.Join(r.words, " "), err, lastLines(out, 3))
		}
	}
	return nil
}

// close takes the network's rules out of the firewall.
func (n Network) close() error {
	for _, r := range n.rules() {
		for r.iptables("-C").Run() == nil {
			if out, err := r.iptables("-D").CombinedOutput(); err != nil {
				return fmt.Errorf("restore the firewall: iptables -t %s -D %s: %w\n%s", r.table, strings.Join(r.words, " "), err, lastLines(out, 3))
			}
		}
	}
	return nil
}

func (r rule) iptables(action string) *exec.Cmd {
	return exec.Command("iptables", append([]string{"--wait", "-t", r.table, action}, r.words...)...)
}

// restoreNetwork puts the host's network back to what the record in dir says, and removes the record.
// Only what the engine made is touched: its bridge, and the firewall's rules for its network.
func restoreNetwork(dir string) error {
	record := filepath.Join(dir, networkRecord)
	before, err := readNetwork(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := net.InterfaceByName(before.bridge()); err == nil {
		if out, err := exec.Command("ip", "link", "delete", before.bridge()).CombinedOutput(); err != nil {
			return fmt.Errorf("remove the engine's bridge: %w\n%s", err, lastLines(out, 3))
		}
	}
	if err := before.close(); err != nil {
		return err
	}
	rules, err := forwardingRules()
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(ipForward); err == nil && !before.followed(rules) && strings.TrimSpace(string(now)) != before.Forward {
		if err := os.WriteFile(ipForward, []byte(before.Forward), 0o644); err != nil {
			return fmt.Errorf("restore net.ipv4.ip_forward: %w", err)
		}
	}
	return os.Remove(record)
}

// followed reports whether anybody has come since, another engine or a container runtime, who relies on what is forwarded;
// rules are the firewall's now, without those of this network.
func (n Network) followed(rules []string) bool {
	return slices.ContainsFunc(rules, func(r string) bool { return !slices.Contains(n.Rules, r) })
}

// plugins is the configuration of the network, as the plugins of the Container Network Interface read it: a bridge, and the
// engine's own plugin that has containers known by their names. It is the engine's usual one but for the firewall.
func (n Network) plugins() ([]byte, error) {
	bridge := map[string]any{
		"type": "bridge", "bridge": n.bridge(), "isDefaultGateway": true, "hairpinMode": true,
		"ipam": map[string]any{"type": "host-local", "ranges": [][]map[string]string{{{"subnet": n.CIDR}}}},
	}
	if mtu := outwardMTU(); mtu > 0 {
		bridge["mtu"] = mtu
	}
	folder := filepath.Join("/var/run/containers/cni/dnsname", n.Name)
	return json.Marshal(map[string]any{
		"cniVersion": "0.4.0", "name": n.Name,
		"plugins": []any{bridge, map[string]any{
			"type": "dnsname", "domainName": n.Name + ".local",
			// Where the engine keeps them for its name server.
			"pidfile": filepath.Join(folder, "pidfile"), "hosts": filepath.Join(folder, "addnhosts"), "lockfile": filepath.Join(folder, "lock"),
			"capabilities": map[string]bool{"aliases": true},
		}},
	})
}

// outwardMTU is the largest packet, in bytes, that the interface of the host's default route takes; 0 if it has none.
func outwardMTU() int {
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(routes)) {
		// Interface, destination, gateway, flags, three counters, mask.
		if words := strings.Fields(line); len(words) > 7 && words[1] == "00000000" && words[7] == "00000000" {
			if i, err := net.InterfaceByName(words[0]); err == nil {
				return i.MTU
			}
		}
	}
	return 0
}
