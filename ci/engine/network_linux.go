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
	return n, writeJSON(filepath.Join(dir, "network.json"), n)
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
// Only what the engine made is touched: its bridge, and the chains named CNI-… that were not there before.
func restoreNetwork(dir string) error {
	record := filepath.Join(dir, "network.json")
	data, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var before Network
	if err := json.Unmarshal(data, &before); err != nil {
		return fmt.Errorf("read %s: %w", record, err)
	}
	if _, err := net.InterfaceByName(before.Name + "0"); err == nil {
		if out, err := exec.Command("ip", "link", "delete", before.Name+"0").CombinedOutput(); err != nil {
			return fmt.Errorf("remove the engine's bridge: %w\n%s", err, lastLines(out, 3))
		}
	}
	if err := removeChains(before.Chains); err != nil {
		return err
	}
	if now, err := os.ReadFile(ipForward); err == nil && strings.TrimSpace(string(now)) != before.Forward {
		if err := os.WriteFile(ipForward, []byte(before.Forward), 0o644); err != nil {
			return fmt.Errorf("restore net.ipv4.ip_forward: %w", err)
		}
	}
	return os.Remove(record)
}

func removeChains(before []string) error {
	now, err := firewallChains()
	if err != nil {
		return err
	}
	var made []string
	for _, c := range now {
		if _, name, _ := strings.Cut(c, "/"); strings.HasPrefix(name, "CNI-") && !slices.Contains(before, c) {
			made = append(made, c)
		}
	}
	run := func(args ...string) error {
		if out, err := exec.Command("iptables", append([]string{"--wait"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("restore the firewall: iptables %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 3))
		}
		return nil
	}
	// A chain can only be deleted when nothing refers to it, and it refers to nothing.
	for _, c := range made {
		table, name, _ := strings.Cut(c, "/")
		if err := run("-t", table, "-F", name); err != nil {
			return err
		}
	}
	for _, c := range made {
		table, name, _ := strings.Cut(c, "/")
		out, err := exec.Command("iptables", "--wait", "-t", table, "-S").Output()
		if err != nil {
			return err
		}
		for _, r := range jumps(string(out), name) {
			if err := run("-t", table, "-D", r.chain, strconv.Itoa(r.number)); err != nil {
				return err
			}
		}
	}
	for _, c := range made {
		table, name, _ := strings.Cut(c, "/")
		if err := run("-t", table, "-X", name); err != nil {
			return err
		}
	}
	return nil
}

// ruleNumber names a rule as iptables -D does.
type ruleNumber struct {
	chain  string
	number int
}

// jumps returns the rules of a listing by iptables -S that jump to target, the last one first:
// deleting one changes the numbers of those behind it.
func jumps(listing, target string) []ruleNumber {
	var found []ruleNumber
	count := map[string]int{}
	for line := range strings.Lines(listing) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "-A" {
			continue
		}
		chain := words[1]
		count[chain]++
		if n := len(words); n >= 4 && (words[n-2] == "-j" || words[n-2] == "-g") && words[n-1] == target {
			found = append(found, ruleNumber{chain, count[chain]})
		}
	}
	slices.Reverse(found)
	return found
}
