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
	"regexp"
	"slices"
	"strconv"
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
	// Chains are the firewall's chains as they were, as table/chain.
	Chains []string `json:"chains"`
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
	chains, err := firewallChains()
	if err != nil {
		return Network{}, err
	}
	// The name of an interface has at most 15 characters.
	n := Network{Name: "millrace-" + filepath.Base(dir)[:4], CIDR: cidr, Forward: strings.TrimSpace(string(forward)), Chains: chains}
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
			n.Forward, n.Chains = other.Forward, other.Chains
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

// firewallChains lists the chains of the tables that the network plugins write to.
func firewallChains() ([]string, error) {
	var chains []string
	for _, table := range []string{"nat", "filter"} {
		out, err := exec.Command("iptables", "--wait", "-t", table, "-S").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("list the firewall's %s table: %w\n%s", table, err, lastLines(out, 3))
		}
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-N "); ok {
				chains = append(chains, table+"/"+name)
			}
		}
	}
	return chains, nil
}

// restoreNetwork puts the host's network back to what the record in dir says, and removes the record.
// Only what the engine made is touched: its bridge, and what the firewall has for addresses of its network.
func restoreNetwork(dir string) error {
	record := filepath.Join(dir, networkRecord)
	before, err := readNetwork(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := net.InterfaceByName(before.Name + "0"); err == nil {
		if out, err := exec.Command("ip", "link", "delete", before.Name+"0").CombinedOutput(); err != nil {
			return fmt.Errorf("remove the engine's bridge: %w\n%s", err, lastLines(out, 3))
		}
	}
	inUse, err := restoreFirewall(before)
	if err != nil {
		return err
	}
	// Another engine may have come to rely on it.
	if now, err := os.ReadFile(ipForward); err == nil && !inUse && strings.TrimSpace(string(now)) != before.Forward {
		if err := os.WriteFile(ipForward, []byte(before.Forward), 0o644); err != nil {
			return fmt.Errorf("restore net.ipv4.ip_forward: %w", err)
		}
	}
	return os.Remove(record)
}

// restoreFirewall removes the rules for addresses of the engine's network with the chains that they lead to, and the
// chains that the network plugins share, if they were not there before and nobody else has rules in them.
// It reports whether somebody has.
func restoreFirewall(before Network) (inUse bool, err error) {
	cidr, err := netip.ParsePrefix(before.CIDR)
	if err != nil {
		return false, fmt.Errorf("read the record of the network: %w", err)
	}
	for table, chain := range map[string]string{"nat": "POSTROUTING", "filter": sharedChain} {
		rules, err := listRules(table)
		if err != nil {
			return false, err
		}
		targets := map[string]bool{}
		for _, r := range slices.Backward(rules) { // deleting a rule changes the numbers of those behind it
			if r.chain != chain || !r.concerns(cidr) {
				continue
			}
			if err := iptables("-t", table, "-D", r.chain, strconv.Itoa(r.number)); err != nil {
				return false, err
			}
			if strings.HasPrefix(r.target, "CNI-") {
				targets[r.target] = true
			}
		}
		for name := range targets {
			if err := removeChain(table, name); err != nil {
				return false, err
			}
		}
	}
	return removeShared(before.Chains)
}

// The chains of the filter table that all networks of the plugins share: one that accepts, and one for the host's administrator.
const sharedChain, adminChain = "CNI-FORWARD", "CNI-ADMIN"

func removeShared(before []string) (inUse bool, err error) {
	chains, err := firewallChains()
	if err != nil || !slices.Contains(chains, "filter/"+sharedChain) {
		return false, err
	}
	rules, err := listRules("filter")
	if err != nil {
		return false, err
	}
	for _, r := range rules {
		if r.chain == adminChain || r.chain == sharedChain && r.target != adminChain {
			return true, nil
		}
	}
	if slices.Contains(before, "filter/"+sharedChain) {
		return false, nil
	}
	for _, r := range slices.Backward(rules) {
		if r.target == sharedChain {
			if err := iptables("-t", "filter", "-D", r.chain, strconv.Itoa(r.number)); err != nil {
				return false, err
			}
		}
	}
	if err := removeChain("filter", sharedChain); err != nil {
		return false, err
	}
	return false, removeChain("filter", adminChain)
}

func removeChain(table, name string) error {
	if err := iptables("-t", table, "-F", name); err != nil {
		return err
	}
	return iptables("-t", table, "-X", name)
}

func iptables(args ...string) error {
	if out, err := exec.Command("iptables", append([]string{"--wait"}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("restore the firewall: iptables %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 3))
	}
	return nil
}

func listRules(table string) ([]rule, error) {
	out, err := exec.Command("iptables", "--wait", "-t", table, "-S").Output()
	if err != nil {
		return nil, fmt.Errorf("list the firewall's %s table: %w", table, err)
	}
	return parseRules(string(out)), nil
}

// rule is what matters here of a rule of the firewall.
type rule struct {
	chain string
	// number is the rule's place in its chain, from 1, as iptables -D takes it.
	number int
	// addresses are those that it matches; target is where it jumps to.
	addresses []netip.Prefix
	target    string
}

func (r rule) concerns(network netip.Prefix) bool {
	return slices.ContainsFunc(r.addresses, func(a netip.Prefix) bool { return network.Contains(a.Addr()) && a.Bits() >= network.Bits() })
}

// parseRules reads what iptables -S prints. A comment is in quotes, and may hold any word.
func parseRules(listing string) []rule {
	var rules []rule
	count := map[string]int{}
	for line := range strings.Lines(listing) {
		words := strings.Fields(quoted.ReplaceAllString(line, "comment"))
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
		r := rule{chain: words[1]}
		count[r.chain]++
		r.number = count[r.chain]
		for i, word := range words[:len(words)-1] {
			switch word {
			case "-s", "-d":
				if p, err := netip.ParsePrefix(words[i+1]); err == nil {
					r.addresses = append(r.addresses, p)
				}
			case "-j", "-g":
				r.target = words[i+1]
			}
		}
		rules = append(rules, r)
	}
	return rules
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
