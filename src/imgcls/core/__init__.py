"""The ground floor: errors, plugins, configuration, chance and run folders."""
