package main

type configCmd struct{ sourceFlags }

func (c *configCmd) Run(s *streams) error {
	source, err := c.sourceDir()
	if err != nil {
		return err
	}
	p, err := c.detect(source)
	if err != nil {
		return err
	}
	text, err := p.YAML()
	if err != nil {
		return err
	}
	_, err = s.stdout.Write(text)
	return err
}
