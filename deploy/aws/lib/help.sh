# shellcheck shell=bash
# What --help prints.

show_help() {
  cat << 'END'
usage: aws.sh [--config FILE] COMMAND [OPTIONS]

Runs memcache_kv on AWS for a load test: one server and one client instance.

  create      make the key pair, the security group and both instances; says the price first
  deploy      start the server's container
  test        send the load from the client, and copy the results here
  status      show what exists, what it costs, and whether the server answers
  ssh         open a shell on the server or the client, or run a command there
  results     copy the results of all load tests here
  teardown    remove everything, and verify that it is gone

All of it can be run again: what exists is found by its tags, and nothing is made twice. aws.sh COMMAND --help
describes a command. The settings are in config.sh beside aws.sh, or in FILE; config.sh.example lists them.

exit status: 0 done; 1 failed (test: a target was missed; status: not everything runs); 2 the command line or the
configuration is wrong; 130 interrupted.
END
}

help_create() {
  cat << 'END'
usage: aws.sh create [--yes]

Makes, in the region of the configuration, and only what is not there yet:
  - a key pair from KEY_FILE (ssh-keygen makes that file if it is missing);
  - a security group that lets SSH and the service ports in from your address, and the service ports from the group;
    run create again when your address or a port has changed, and the rules follow;
  - a server and a client instance in the same subnet.
A stopped instance is started. Before that it says what an hour costs, and asks.

  -y, --yes   do not ask
END
}

help_deploy() {
  cat << 'END'
usage: aws.sh deploy

Installs docker on the server if it is missing, brings the image there (IMAGE_SOURCE in the configuration: local,
registry or wheel), replaces the container, and waits until the server answers. Run it again for each new version.
END
}

help_test() {
  cat << 'END'
usage: aws.sh test [LOAD OPTIONS]

Copies the load tester to the client and runs it against the server's private address: first the line protocol, then
memcached's text protocol, each with 100 connections of 1000 requests, half of them stores, 16-byte keys and 64-byte
values. Then it copies the results here. LOAD OPTIONS are added to both runs, for example --duration 60 --processes 2;
python -m clients.load_test --help describes them.

exit status: 0 all targets are met; 1 one is missed, or the server can't be reached.
END
}

help_status() {
  cat << 'END'
usage: aws.sh status

Shows what exists of this deployment, what it has cost so far, and whether the server answers. Changes nothing.

exit status: 0 both instances run and the server answers; 1 otherwise.
END
}

help_ssh() {
  cat << 'END'
usage: aws.sh ssh server|client [COMMAND...]

Opens a shell on an instance, or runs a command there. The server's container is called memcache-kv:
  aws.sh ssh server docker logs memcache-kv
END
}

help_results() {
  cat << 'END'
usage: aws.sh results [FOLDER]

Copies the results of all load tests from the client to FOLDER (results/NAME beside the configuration if it is left
out): for each run a folder with the JSON and HTML of both protocols, and a file that says what was measured on what.
END
}

help_teardown() {
  cat << 'END'
usage: aws.sh teardown [--yes]

Terminates the instances, deletes their volumes, the security group and the key pair, all found by the tag of this
deployment, and then asks AWS whether anything is left. Nothing without that tag is touched. What stays: the key file
and the results on this machine. Run it as often as you like.

  -y, --yes   do not ask
END
}
