"""What a PolyglotService is: its fields, names, conditions, and the CRD made from them."""
