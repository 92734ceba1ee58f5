"""What the integration tests and the demo stand on: PostgreSQL servers, systems with data in them, and runs of Ansible."""
